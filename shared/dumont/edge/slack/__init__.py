"""Slack: commands, buttons, cards, and what is told by itself."""
