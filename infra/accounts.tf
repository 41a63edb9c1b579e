# Each function is somebody of its own, and may do what its code can reach (shared/dumont/build/reach.py) and no more.
resource "google_service_account" "function" {
  for_each = local.functions

  account_id   = "dumont-${each.key}"
  display_name = "Dumont ${each.key}"
  description  = each.value.description

  depends_on = [google_project_service.api]
}

# Who calls the functions that are not open to the world: Pub/Sub pushes to workers in its name, and Scheduler calls.
resource "google_service_account" "caller" {
  account_id   = local.caller_id
  display_name = "Dumont caller"
  description  = "Pub/Sub and Cloud Scheduler call Dumont's functions in its name."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "builder" {
  account_id   = "dumont-builder"
  display_name = "Dumont builder"
  description  = "Builds the functions' images from their sources."

  depends_on = [google_project_service.api]
}

locals {
  caller_id = "dumont-caller"
  # As the account's `email` will be: functions must know it before anything is made.
  caller = "${local.caller_id}@${var.project}.iam.gserviceaccount.com"
}

locals {
  readers    = [for name, function in local.functions : name if contains(function.needs, "read") && !contains(function.needs, "write")]
  writers    = [for name, function in local.functions : name if contains(function.needs, "write")]
  publishers = [for name, function in local.functions : name if contains(function.needs, "publish")]
  pausers    = [for name, function in local.functions : name if contains(function.needs, "schedule")]
  namers     = startswith(var.dns, "clouddns:") ? [for name, function in local.functions : name if contains(function.needs, "dns")] : []

  # A message says only which operation to look at, and the worker asks the store: so whoever may publish at all may
  # publish to every worker.
  topic_publishers = {
    for pair in setproduct(local.publishers, keys(local.workers)) :
    "${pair[0]}/${pair[1]}" => { function = pair[0], worker = pair[1] }
  }
}

resource "google_project_iam_member" "reader" {
  for_each = toset(local.readers)

  project = var.project
  role    = "roles/datastore.viewer"
  member  = google_service_account.function[each.key].member
}

resource "google_project_iam_member" "writer" {
  for_each = toset(local.writers)

  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.function[each.key].member
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = local.topic_publishers

  project = var.project
  topic   = google_pubsub_topic.work[each.value.worker].name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.function[each.value.function].member
}

# Jobs have no policies of their own, so this is for all of the project's; Google's own role could change and delete
# them too.
resource "google_project_iam_custom_role" "pauser" {
  role_id     = "dumontSweepPauser"
  title       = "Dumont sweep pauser"
  description = "Pauses and resumes Cloud Scheduler's jobs."
  permissions = ["cloudscheduler.jobs.enable", "cloudscheduler.jobs.get", "cloudscheduler.jobs.pause"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "pauser" {
  for_each = toset(local.pausers)

  project = var.project
  role    = google_project_iam_custom_role.pauser.name
  member  = google_service_account.function[each.key].member
}

resource "google_project_iam_custom_role" "namer" {
  count = startswith(var.dns, "clouddns:") ? 1 : 0

  project     = local.dns_project
  role_id     = "dumontNamer"
  title       = "Dumont namer"
  description = "Changes record sets in Cloud DNS."
  permissions = [
    "dns.changes.create",
    "dns.changes.get",
    "dns.managedZones.get",
    "dns.resourceRecordSets.create",
    "dns.resourceRecordSets.delete",
    "dns.resourceRecordSets.list",
    "dns.resourceRecordSets.update",
  ]
}

locals {
  dns_project = startswith(var.dns, "clouddns:") ? split("/", trimprefix(var.dns, "clouddns:"))[0] : var.project
}

resource "google_project_iam_member" "namer" {
  for_each = toset(local.namers)

  project = local.dns_project
  role    = google_project_iam_custom_role.namer[0].name
  member  = google_service_account.function[each.key].member
}

resource "google_project_iam_member" "builder" {
  for_each = toset(["roles/artifactregistry.writer", "roles/logging.logWriter"])

  project = var.project
  role    = each.key
  member  = google_service_account.builder.member
}

# Cloud Functions copies a source into a bucket of its own, gcf-v2-sources-…, from which the build takes it.
resource "google_project_iam_member" "builder_sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.builder.member

  condition {
    title      = "functions' sources"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-\") || resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.sources.name}\")"
  }
}

# Pub/Sub signs its pushes as the caller.
resource "google_service_account_iam_member" "push_signer" {
  service_account_id = google_service_account.caller.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent
}
