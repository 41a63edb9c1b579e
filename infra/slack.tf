locals {
  # Each function has them: what happens is written down by whichever function it happens in, and told by one.
  slack_environment = {
    DUMONT_ALERTS        = var.slack_alerts ? "slack" : ""
    DUMONT_SLACK_CHANNEL = var.slack_channel
    DUMONT_SLACK_TEAM    = var.slack_team
    DUMONT_SLACK_ROLES   = jsonencode(var.slack_roles)
  }
}
