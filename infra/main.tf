locals {
  # What the code declares: written by `make infra` from functions/*/function.toml, the code and its queries.
  declared  = jsondecode(file("${path.module}/declared.json"))
  functions = local.declared.functions
  workers   = { for name, function in local.functions : name => function if function.topic != null }
  scheduled = { for name, function in local.functions : name => function if function.schedule != null }

  public_url = var.public_url != "" ? var.public_url : "https://${var.region}-${var.project}.cloudfunctions.net"
  # To the letter what the caller's tokens are for: Google's front door knows each function by this address too, and the
  # function compares it.
  audiences = { for name, function in local.functions : name => "https://${var.region}-${var.project}.cloudfunctions.net/${name}" }
  sweep_job = "projects/${var.project}/locations/${var.region}/jobs/dumont-heartbeat-check"
  labels    = { app = "dumont", deployment = var.deployment }

  apis = toset([
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
  ])
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "api" {
  for_each = local.apis

  project = var.project
  service = each.key
  # What else is in the project may use it.
  disable_on_destroy = false
}
