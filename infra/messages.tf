locals {
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "work" {
  #checkov:skip=CKV_GCP_83: keys of Google's own encrypt it; a message holds the name of an operation and nothing else
  for_each = local.workers

  name   = each.value.topic
  labels = local.labels

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83: keys of Google's own encrypt it, as above
  for_each = local.workers

  name   = "${each.value.topic}-dead"
  labels = local.labels

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "work" {
  for_each = local.workers

  name   = each.value.topic
  topic  = google_pubsub_topic.work[each.key].id
  labels = local.labels

  # Longer than a worker may run: a message is sent again only once its worker has ended. 600 is Google's longest.
  ack_deadline_seconds = min(600, each.value.timeout_seconds + 30)
  # The sweep publishes again whatever waits, so an old message is worth nothing.
  message_retention_duration = "3600s"

  push_config {
    # functions-framework reads the topic from the path, and makes a CloudEvent of the push.
    push_endpoint = "${google_cloudfunctions2_function.function[each.key].service_config[0].uri}/projects/${var.project}/topics/${each.value.topic}"

    oidc_token {
      service_account_email = google_service_account.caller.email
      audience              = local.audiences[each.key]
    }
  }

  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead[each.key].id
    max_delivery_attempts = 10
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_cloud_run_v2_service_iam_member.caller, google_service_account_iam_member.push_signer]
}

# Nobody listens: an alert says that something lies here, and `gcloud pubsub subscriptions pull` shows what.
resource "google_pubsub_subscription" "dead" {
  for_each = local.workers

  name                       = "${each.value.topic}-dead"
  topic                      = google_pubsub_topic.dead[each.key].id
  labels                     = local.labels
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "dead" {
  for_each = local.workers

  project = var.project
  topic   = google_pubsub_topic.dead[each.key].name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead" {
  for_each = local.workers

  project      = var.project
  subscription = google_pubsub_subscription.work[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
