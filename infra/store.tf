resource "google_firestore_database" "records" {
  project     = var.project
  name        = "(default)"
  location_id = var.firestore_location != "" ? var.firestore_location : var.region
  type        = "FIRESTORE_NATIVE"
  # Transactions that lock what they read, as the store's contract has it.
  concurrency_mode                  = "PESSIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = "DELETE_PROTECTION_ENABLED"
  deletion_policy                   = "ABANDON"

  depends_on = [google_project_service.api]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_firestore_backup_schedule" "daily" {
  project   = var.project
  database  = google_firestore_database.records.name
  retention = "1209600s"

  daily_recurrence {}
}

# One for each query that needs it: shared/dumont/build/indexes.py works them out.
resource "google_firestore_index" "index" {
  for_each = { for index in local.declared.indexes : join(".", concat([index.collection], index.fields[*].path)) => index }

  project    = var.project
  database   = google_firestore_database.records.name
  collection = each.value.collection

  dynamic "fields" {
    for_each = each.value.fields
    iterator = field

    content {
      field_path = field.value.path
      order      = field.value.order
    }
  }
}

# Fields that Firestore is not to index by themselves: an index that begins with a time takes 500 writes a second.
resource "google_firestore_field" "unindexed" {
  for_each = { for exemption in local.declared.exemptions : "${exemption.collection}.${exemption.field}" => exemption }

  project    = var.project
  database   = google_firestore_database.records.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# Records that end by themselves, when this field's time has come. It is indexed by nobody's query.
resource "google_firestore_field" "expiring" {
  for_each = toset(local.declared.expiring)

  project    = var.project
  database   = google_firestore_database.records.name
  collection = each.key
  field      = local.declared.expires

  index_config {}
  ttl_config {}
}
