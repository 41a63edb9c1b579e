resource "google_cloud_scheduler_job" "job" {
  for_each = local.scheduled

  name             = "dumont-${each.key}"
  region           = var.region
  description      = each.value.description
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${max(15, min(1800, each.value.timeout_seconds))}s"

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.function[each.key].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.caller.email
      audience              = local.audiences[each.key]
    }
  }

  # The next minute is the next try.
  retry_config {
    retry_count = 0
  }

  depends_on = [google_project_service.api, google_cloud_run_v2_service_iam_member.caller]

  lifecycle {
    # Dumont pauses its sweeps when nothing runs, and resumes them: an apply in between must change neither. It begins
    # enabled, and the first sweeps find nothing and pause it.
    ignore_changes = [paused]
  }
}

# Nobody pauses this one: each hour one look, whether it is right that the sweeps rest. A wish whose process died before
# it resumed them, and whose message was lost as well, is found by it; so is what bills at the market and in no book.
resource "google_cloud_scheduler_job" "look" {
  for_each = local.scheduled

  name             = "dumont-${each.key}-hourly"
  region           = var.region
  description      = "Each hour: one sweep, even while they rest."
  schedule         = "23 * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "${max(15, min(1800, each.value.timeout_seconds))}s"

  http_target {
    http_method = "POST"
    uri         = "${google_cloudfunctions2_function.function[each.key].service_config[0].uri}?seconds=10&every_seconds=60"

    oidc_token {
      service_account_email = google_service_account.caller.email
      audience              = local.audiences[each.key]
    }
  }

  retry_config {
    retry_count = 3
  }

  depends_on = [google_project_service.api, google_cloud_run_v2_service_iam_member.caller]
}
