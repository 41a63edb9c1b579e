"""The commands, one idea a file. Each imports what it needs inside itself, so that `dumont --help` stays fast."""
