"""The gateway: HTTP to machines' ports through the control plane, for callers with a token, waking who sleeps."""
