locals {
  # Alerts on what the code says when something is wrong. A test finds each of these sentences in the code. `of_kinds` are
  # sentences that count for some kinds of operations: of the others who asked for them is told.
  log_alerts = {
    orphan-found = {
      title    = "Something rented that no operation answers for"
      severity = "ERROR"
      messages = ["orphan found", "instance without an operation found"]
      advice   = "Dumont destroys it by itself. Look whether it is gone: `dumont ls`, and the market's own console. If it comes back, somebody else rents under this deployment's label."
    }
    failover-failed = {
      title    = "A dead machine is not moved"
      severity = "CRITICAL"
      messages = ["failover not begun", "failover waits for its old host"]
      of_kinds = { "operation failed" = ["failover"] }
      advice   = "`dumont show NAME` says why, and what may be done. Its last snapshot stays."
    }
    many-died-at-once = {
      title    = "Many machines fell silent at once"
      severity = "CRITICAL"
      messages = ["many machines fell silent at once"]
      advice   = "Rather our own fault than theirs, so nothing is moved. Is the heartbeat function up? Did a deployment change the data master key?"
    }
    sweep-failed = {
      title    = "The sweep fails, or its schedule does not resume"
      severity = "CRITICAL"
      messages = ["sweep failed", "the sweeps' schedule was not resumed"]
      advice   = "Nothing is noticed without it: no death, no budget, no lost message. See the heartbeat-check function's logs; `gcloud scheduler jobs resume dumont-heartbeat-check` starts it by hand."
    }
    budget-reached = {
      title    = "A budget, or most of it, is spent"
      severity = "WARNING"
      messages = ["budget reached", "budget: a share is spent", "budget: a machine cannot be stopped"]
      advice   = "`dumont budget` shows which, `dumont cost` what it went to. At the limit Dumont stops what bills."
    }
    credit-low = {
      title    = "A market's prepaid credit runs low"
      severity = "CRITICAL"
      messages = ["credit low: at zero the provider stops everything", "the market's credit runs low"]
      advice   = "At zero the market stops every machine and, later, deletes it. Pay in."
    }
    snapshot-damaged = {
      title    = "A snapshot is damaged"
      severity = "ERROR"
      messages = ["snapshot damaged", "snapshot damaged, going on with the one before"]
      advice   = "The one before was, or will be, restored in its place: `dumont snapshots NAME`. Take a new one now."
    }
    job-unsaved = {
      title    = "A job's outputs are not saved"
      severity = "ERROR"
      messages = ["a job's outputs are not saved; its machine is left"]
      advice   = "Its machine runs on, and bills, so that nothing is lost. Fetch what it made, then `dumont down NAME`."
    }
    webhook-dead = {
      title    = "A webhook does not arrive"
      severity = "WARNING"
      messages = ["a webhook was not delivered", "a webhook is disabled"]
      advice   = "Its receiver failed for a day, or wants no more. `dumont webhook ls`, `dumont webhook deliveries ID --state dead`; when it is mended, `dumont webhook set ID --enable` and `dumont webhook replay ID`."
    }
    dns-stale = {
      title    = "DNS does not follow a machine"
      severity = "WARNING"
      messages = ["DNS does not follow", "DNS records were not removed"]
      advice   = "`dumont ssh` does not need DNS. Remove by hand what leads to an address that is a stranger's now."
    }
    defect = {
      title    = "A function failed"
      severity = "ERROR"
      messages = ["request failed", "work failed", "message not understood", "an audit entry was not written"]
      advice   = "The log has the exception and the operation. Operations are tried again by themselves."
    }
  }
}

locals {
  # What an alert listens for, in the log's query language, where OR binds tighter than AND.
  heard = {
    for name, alert in local.log_alerts : name => concat(
      ["jsonPayload.message=(${join(" OR ", [for message in alert.messages : jsonencode(message)])})"],
      [
        for message, kinds in try(alert.of_kinds, {}) :
        "(jsonPayload.message=${jsonencode(message)} AND jsonPayload.kind=(${join(" OR ", [for kind in kinds : jsonencode(kind)])}))"
      ],
    )
  }
}

locals {
  channels = concat(
    [for channel in google_monitoring_notification_channel.email : channel.id],
    tolist(var.alert_channels),
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  display_name = "Dumont: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
  user_labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "said" {
  for_each = local.log_alerts

  name        = "dumont/${each.key}"
  description = each.value.title
  filter      = "resource.type=\"cloud_run_revision\" AND ${length(local.heard[each.key]) > 1 ? "(${join(" OR ", local.heard[each.key])})" : local.heard[each.key][0]}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    labels {
      key         = "function"
      value_type  = "STRING"
      description = "Which function said so."
    }
  }

  label_extractors = { function = "EXTRACT(resource.labels.service_name)" }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "said" {
  for_each = local.log_alerts

  display_name          = "Dumont: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = each.value.title

    # Of the log itself and not of the metric: a policy on a metric that was made a moment ago is refused.
    condition_matched_log {
      filter           = google_logging_metric.said[each.key].filter
      label_extractors = { machine = "EXTRACT(jsonPayload.machine)", function = "EXTRACT(resource.labels.service_name)" }
    }
  }

  alert_strategy {
    auto_close = "3600s"

    notification_rate_limit {
      period = "900s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.advice
  }
}

# The sweep itself cannot say that it does not run. While nothing runs its schedule is paused, and that is right: so it
# is late only if agents report, or workers work, and no sweep ends well.
resource "google_monitoring_alert_policy" "sweep_late" {
  display_name          = "Dumont: machines report, and nobody sweeps"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "Heartbeats for five minutes without a sweep"

    condition_prometheus_query_language {
      query               = "sum(increase(run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"heartbeat\",response_code_class=\"2xx\"}[5m])) > 0 unless sum(increase(run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"heartbeat-check\",response_code_class=\"2xx\"}[5m])) > 0"
      duration            = "120s"
      evaluation_interval = "60s"
      # Google knows these metrics only once a function has been called.
      disable_metric_validation = true
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "No death is noticed, and no budget enforced. `gcloud scheduler jobs describe dumont-heartbeat-check --location ${var.region}` says whether it is paused and how its last call ended; `gcloud scheduler jobs resume` starts it."
  }

  depends_on = [google_cloudfunctions2_function.function]
}

resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "Dumont: messages that no worker could take"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "Dead letters"

    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.labels.subscription_id=monitoring.regex.full_match(\"dumont-.*-dead\")"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.subscription_id"]
      }
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The sweep has published, or will publish, their operations again. `gcloud pubsub subscriptions pull SUBSCRIPTION --limit 10 --auto-ack` shows and spends them; the worker's logs say why it failed."
  }

  depends_on = [google_pubsub_subscription.dead]
}

resource "google_monitoring_uptime_check_config" "agent" {
  count = var.uptime_check ? 1 : 0

  display_name       = "Dumont: the agent's file"
  timeout            = "30s"
  period             = "900s"
  log_check_failures = true
  user_labels        = local.labels

  http_check {
    # New machines fetch it: if it does not come, they run unwatched.
    path         = "${local.public_path}/agent"
    port         = 443
    use_ssl      = true
    validate_ssl = true

    accepted_response_status_codes {
      status_value = 200
    }
  }

  monitored_resource {
    type   = "uptime_url"
    labels = { project_id = var.project, host = local.public_host }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.anyone]
}

locals {
  public_host = split("/", trimprefix(local.public_url, "https://"))[0]
  public_path = trimprefix(local.public_url, "https://${local.public_host}")
}

resource "google_monitoring_alert_policy" "down" {
  count = var.uptime_check ? 1 : 0

  display_name          = "Dumont: the functions do not answer"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "Uptime check fails from two places or more"

    condition_threshold {
      filter          = "resource.type=\"uptime_url\" AND metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id=\"${google_monitoring_uptime_check_config.agent[0].uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "0s"

      aggregations {
        alignment_period     = "1200s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Agents may not be heard either: then no death is believed (many at once are our own fault). See the functions' logs, and https://status.cloud.google.com."
  }
}

# Google's own costs. What machines cost is watched by Dumont's budgets, which can stop it.
resource "google_billing_budget" "google" {
  count = var.billing_account != "" ? 1 : 0

  billing_account = var.billing_account
  display_name    = "Dumont: Google's own costs"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.google_budget_usd_per_month)
    }
  }

  threshold_rules {
    threshold_percent = 0.8
  }
  threshold_rules {
    threshold_percent = 1.0
  }
  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  dynamic "all_updates_rule" {
    for_each = length(local.channels) > 0 ? [1] : []

    content {
      monitoring_notification_channels = slice(local.channels, 0, min(5, length(local.channels)))
    }
  }

  depends_on = [google_project_service.api]
}
