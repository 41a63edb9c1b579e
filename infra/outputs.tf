output "url" {
  description = "The base of all functions' addresses: what DUMONT_URL is set to."
  value       = local.public_url
}

output "accounts" {
  description = "Each function's service account."
  value       = { for name, account in google_service_account.function : name => account.email }
}

output "caller" {
  description = "The account in whose name Pub/Sub and Cloud Scheduler call."
  value       = google_service_account.caller.email
}

output "secrets" {
  description = "The secrets that need a version: environment variable → name. infra/secrets.sh adds those that have none."
  value       = local.secrets
}

output "bundles" {
  description = "The functions' bundles as they are deployed."
  value       = { for name, source in google_storage_bucket_object.source : name => source.name }
}
