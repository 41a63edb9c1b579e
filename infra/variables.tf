variable "project" {
  description = "The Google Cloud project that Dumont has to itself, by its id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Where the functions run, such as us-central1: the nearer to the markets, the sooner a death is noticed."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like us-central1."
  }
}

variable "firestore_location" {
  description = "Where the records lie; \"\" is the functions' region. It cannot be changed later."
  type        = string
  default     = ""

  validation {
    condition     = var.firestore_location == "" || can(regex("^([a-z]+-[a-z]+[0-9]+|nam5|nam7|eur3)$", var.firestore_location))
    error_message = "A region such as us-central1, or nam5, nam7 or eur3."
  }
}

variable "deployment" {
  description = "Dumont's name for this deployment. It is in the label of everything rented, and what bears another's is never touched."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[a-z0-9]{1,16}$", var.deployment))
    error_message = "1 to 16 lower-case letters and digits."
  }
}

variable "bundles" {
  description = "The folder with the functions' source bundles, NAME.zip, as `make build` leaves them."
  type        = string
  default     = "../build/functions"

  validation {
    condition     = length(var.bundles) > 0
    error_message = "Name the folder that `make build` wrote."
  }
}

variable "bucket" {
  description = "The B2 bucket for snapshots, as infra/b2_setup.py made it."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{4,61}[A-Za-z0-9]$", var.bucket)) && !startswith(var.bucket, "b2-")
    error_message = "6 to 63 letters, digits and hyphens, not beginning with b2-."
  }
}

variable "public_url" {
  description = "Where agents and users reach the functions, if a domain of your own stands before them; \"\" is Google's own address."
  type        = string
  default     = ""

  validation {
    condition     = var.public_url == "" || can(regex("^https://[^/?#@]+(/[^?#]*[^/?#])?$", var.public_url))
    error_message = "An https:// address without a slash at its end."
  }
}

variable "cors_origins" {
  description = "Origins whose pages may call the functions, such as https://dumont.example."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.cors_origins : can(regex("^https?://[^/,|]+$", origin))])
    error_message = "Origins have a scheme and a host, and no path."
  }
}

variable "changes_per_minute" {
  description = "How often a minute one API key may ask for a change; 0 sets no limit. Reading and heartbeats have none."
  type        = number
  default     = 240

  validation {
    condition     = var.changes_per_minute >= 0 && var.changes_per_minute <= 999999 && floor(var.changes_per_minute) == var.changes_per_minute
    error_message = "A whole number from 0 to 999999."
  }
}

variable "requests_per_minute" {
  description = "How often a minute one API key, or one machine's gateway tokens together, may ask through the gateway and /v1; 0 sets no limit."
  type        = number
  default     = 6000

  validation {
    condition     = var.requests_per_minute >= 0 && var.requests_per_minute <= 999999 && floor(var.requests_per_minute) == var.requests_per_minute
    error_message = "A whole number from 0 to 999999."
  }
}

variable "bootstrap_key_hash" {
  description = "An admin's API key as ID:SHA256, which `dumont keys bootstrap` prints beside the key itself; the way in that no other key can close. Its hash is no secret."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9]{8,32}:[0-9a-f]{64})?$", var.bootstrap_key_hash))
    error_message = "ID:SHA256, as `dumont keys bootstrap` prints it; never the key itself."
  }
}

variable "wrong_keys_per_minute" {
  description = "How many wrong keys a minute one address is told of; 0 sets no limit."
  type        = number
  default     = 60

  validation {
    condition     = var.wrong_keys_per_minute >= 0 && var.wrong_keys_per_minute <= 999999 && floor(var.wrong_keys_per_minute) == var.wrong_keys_per_minute
    error_message = "A whole number from 0 to 999999."
  }
}

variable "proxies" {
  description = "How many proxies of your own stand between callers and Google's functions and add to X-Forwarded-For: a load balancer counts as one."
  type        = number
  default     = 0

  validation {
    condition     = var.proxies >= 0 && var.proxies <= 9 && floor(var.proxies) == var.proxies
    error_message = "A whole number from 0 to 9."
  }
}

variable "log_level" {
  description = "What the functions log: DEBUG, INFO, WARNING or ERROR. Alerts need ERROR at least."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "DEBUG, INFO, WARNING or ERROR."
  }
}

variable "instances_max" {
  description = "How many instances a function may have where its function.toml says nothing."
  type        = number
  default     = 20

  validation {
    condition     = var.instances_max >= 1 && var.instances_max <= 1000 && floor(var.instances_max) == var.instances_max
    error_message = "A whole number from 1 to 1000."
  }
}

variable "dns" {
  description = "Where machines' names are kept in DNS: clouddns:PROJECT/ZONE, cloudflare:ZONE_ID, or \"\" for nowhere."
  type        = string
  default     = ""

  validation {
    condition     = var.dns == "" || can(regex("^(clouddns:[a-z][a-z0-9-]+/[a-z0-9-]+|cloudflare:[0-9a-f]{32})$", var.dns))
    error_message = "clouddns:PROJECT/ZONE or cloudflare:ZONE_ID."
  }
}

variable "dns_zone" {
  description = "The domain below which machines' names stand, such as gpu.example.com."
  type        = string
  default     = ""

  validation {
    condition     = (var.dns_zone == "") == (var.dns == "")
    error_message = "dns and dns_zone go together."
  }
}

variable "more_secrets" {
  description = "Secrets to keep beside those that the functions name: environment variable → name. For the way back to a release that does not know them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in values(var.more_secrets) : can(regex("^dumont-[a-z0-9-]+$", name))])
    error_message = "A secret's name begins with dumont-."
  }
}

variable "alert_emails" {
  description = "Who is written to when something is wrong. Nobody, if empty: the alerts are then seen in the console alone."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))])
    error_message = "Each is an e-mail address."
  }
}

variable "alert_channels" {
  description = "Notification channels that exist already (projects/P/notificationChannels/N), such as Slack's or PagerDuty's."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.alert_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "Each is projects/PROJECT/notificationChannels/NUMBER."
  }
}

variable "uptime_check" {
  description = "Whether Google asks for the agent's file each quarter of an hour, and alerts if it does not come."
  type        = bool
  default     = true
}

variable "billing_account" {
  description = "The billing account (XXXXXX-XXXXXX-XXXXXX) on which to set a budget for Google's own costs; \"\" sets none."
  type        = string
  default     = ""

  validation {
    condition     = var.billing_account == "" || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "XXXXXX-XXXXXX-XXXXXX."
  }
}

variable "google_budget_usd_per_month" {
  description = "Google's own costs at which it is alerted, in the account's currency. Rented machines are not in it: Dumont's budgets watch those."
  type        = number
  default     = 20

  validation {
    condition     = var.google_budget_usd_per_month >= 1 && floor(var.google_budget_usd_per_month) == var.google_budget_usd_per_month
    error_message = "A whole number, 1 at least."
  }
}

variable "slack_alerts" {
  description = "Whether Slack is told what happens by itself: failovers, budgets, orphans, the day's digest. The app's secrets are set by infra/secrets.sh."
  type        = bool
  default     = false
}

variable "slack_channel" {
  description = "The channel that is told, by its id (C…); the app must be in it. \"\" if an incoming webhook is used instead."
  type        = string
  default     = ""

  validation {
    condition     = var.slack_channel == "" || can(regex("^[CG][A-Z0-9]{6,}$", var.slack_channel))
    error_message = "A channel's id looks like C0123456789: it is at the end of the channel's details."
  }
}

variable "slack_team" {
  description = "The Slack workspace whose requests are taken, by its id (T…). \"\" takes any that the app is installed in."
  type        = string
  default     = ""

  validation {
    condition     = var.slack_team == "" || can(regex("^[TE][A-Z0-9]{6,}$", var.slack_team))
    error_message = "A workspace's id looks like T0123456789."
  }
}

variable "slack_roles" {
  description = "Slack members who may do more than look: member id (U…) → viewer, operator or admin."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for role in values(var.slack_roles) : contains(["viewer", "operator", "admin"], role)])
    error_message = "A role is viewer, operator or admin."
  }
}
