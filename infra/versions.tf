terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }

  # The bucket is named at init: -backend-config=bucket=PROJECT-dumont-state. State holds no secret's value.
  backend "gcs" {
    prefix = "dumont"
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # Budgets and IAM are billed to, and limited by, this project rather than the caller's.
  user_project_override = true
  billing_project       = var.project
}
