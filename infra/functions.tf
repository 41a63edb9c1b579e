resource "google_storage_bucket" "sources" {
  #checkov:skip=CKV_GCP_62: it holds this repository's sources; who read them is of no interest
  name     = "${var.project}-dumont-sources"
  location = var.region
  labels   = local.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 90
    }
  }

  depends_on = [google_project_service.api]
}

# Named by their content: a bundle that did not change deploys nothing.
resource "google_storage_bucket_object" "source" {
  for_each = toset([for function in local.functions : function.folder])

  bucket = google_storage_bucket.sources.name
  name   = "functions/${each.key}-${filesha256("${var.bundles}/${each.key}.zip")}.zip"
  source = "${var.bundles}/${each.key}.zip"
}

resource "google_cloudfunctions2_function" "function" {
  #checkov:skip=CKV_GCP_124: users, agents and markets call from anywhere; what they do not call is internal (below)
  for_each = local.functions

  name        = each.key
  location    = var.region
  description = each.value.description
  labels      = local.labels

  build_config {
    runtime         = "python311"
    entry_point     = each.value.target
    service_account = google_service_account.builder.id

    source {
      storage_source {
        bucket = google_storage_bucket.sources.name
        object = google_storage_bucket_object.source[each.value.folder].name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.function[each.key].email
    available_memory                 = "${each.value.memory_mib}Mi"
    available_cpu                    = each.value.cpu
    timeout_seconds                  = each.value.timeout_seconds
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = each.value.instances_min
    max_instance_count               = coalesce(each.value.instances_max, var.instances_max)
    all_traffic_on_latest_revision   = true
    # Pub/Sub's pushes and Scheduler's calls come from within: for the others there is no door at all.
    ingress_settings = each.value.public ? "ALLOW_ALL" : "ALLOW_INTERNAL_ONLY"

    environment_variables = merge(
      {
        GOOGLE_CLOUD_PROJECT = var.project
        DUMONT_DEPLOYMENT    = var.deployment
        DUMONT_LOG_LEVEL     = var.log_level
        DUMONT_BUCKET        = var.bucket
        DUMONT_CORS_ORIGINS  = join(",", var.cors_origins)
        DUMONT_PUBLIC_URL    = local.public_url
        DUMONT_SCHEDULER_JOB = local.sweep_job
        DUMONT_DNS           = var.dns
        DUMONT_DNS_ZONE      = var.dns_zone

        DUMONT_CHANGES_PER_MINUTE    = tostring(var.changes_per_minute)
        DUMONT_WRONG_KEYS_PER_MINUTE = tostring(var.wrong_keys_per_minute)
        DUMONT_REQUESTS_PER_MINUTE   = tostring(var.requests_per_minute)
        DUMONT_BOOTSTRAP_KEY         = var.bootstrap_key_hash
        # Google's own front end is one.
        DUMONT_PROXIES = tostring(1 + var.proxies)
      },
      local.slack_environment,
      # Who is called by Google alone looks at the token too. Google's front door (IAM) has checked its signature by then,
      # and taken it away: that holds because no such function is open to anyone (below).
      each.value.public ? {} : {
        DUMONT_CALLER         = local.caller
        DUMONT_AUDIENCE       = local.audiences[each.key]
        DUMONT_CALLER_CHECKED = "iam"
      },
      # functions-framework's own: its server has as many threads as the processor has cores, times four.
      each.value.concurrency > 1 ? { THREADS = tostring(each.value.concurrency) } : {},
    )

    dynamic "secret_environment_variables" {
      for_each = local.secrets_of[each.key]
      iterator = variable

      content {
        key        = variable.value
        project_id = var.project
        secret     = google_secret_manager_secret.secret[variable.value].secret_id
        version    = "latest"
      }
    }
  }

  # Google starts an instance as the last act of a deployment: it needs its secrets then, and records that can be asked.
  depends_on = [
    google_project_iam_member.builder,
    google_project_iam_member.builder_sources,
    google_project_iam_member.reader,
    google_project_iam_member.writer,
    google_secret_manager_secret_iam_member.reader,
    google_firestore_index.index,
  ]
}

# Google lets any caller through to these, and they ask for a proof themselves: one of Dumont's keys, an agent's token, a
# provider's signature. Google's own check would claim the same header.
resource "google_cloud_run_v2_service_iam_member" "anyone" {
  for_each = { for name, function in local.functions : name => function if function.public }

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_v2_service_iam_member" "caller" {
  for_each = merge(local.workers, local.scheduled)

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.caller.member
}
