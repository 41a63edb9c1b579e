locals {
  # Environment variable → name in Secret Manager. A token for Cloudflare is wanted only where it keeps the names.
  cloudflare_secrets = startswith(var.dns, "cloudflare:") ? { CLOUDFLARE_API_TOKEN = "dumont-cloudflare-api-token" } : {}
  secrets            = merge(var.more_secrets, local.declared.secrets, local.cloudflare_secrets)

  secrets_of = {
    for name, function in local.functions : name => concat(
      function.secrets, contains(function.needs, "dns") ? keys(local.cloudflare_secrets) : [],
    )
  }
  secret_readers = merge([
    for name, variables in local.secrets_of : {
      for variable in variables : "${name}/${variable}" => { function = name, variable = variable }
    }
  ]...)
}

# Without any version here: a value in Terraform would be a value in its state. infra/secrets.sh adds them.
resource "google_secret_manager_secret" "secret" {
  for_each = local.secrets

  secret_id = each.value
  labels    = local.labels

  replication {
    auto {}
  }

  # A version that was taken away by mistake can be had back.
  version_destroy_ttl = "604800s"

  depends_on = [google_project_service.api]

  lifecycle {
    # The master key opens every snapshot: with it gone they are noise.
    prevent_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.secret_readers

  project   = var.project
  secret_id = google_secret_manager_secret.secret[each.value.variable].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.value.function].member
}
