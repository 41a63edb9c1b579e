"""The official `vastai` CLI, imported once and forked for each command: its imports take eight times as long as most
commands do. Each runs its `main` in a process of its own, with its own arguments, outputs and exit status.

Reads a JSON list of a command's words and the files for its two outputs from each line; says its exit status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys

COMMAND_SECONDS = 60
COMMANDS = (
    "instances", "offers", "machines", "teams", "keys", "endpoints", "billing", "storage", "auth", "misc",
    "deployments", "metrics", "benchmarks",
)  # fmt: skip
"""The modules that `main` would import, in its order; one that another version lacks is no matter."""


def serve() -> None:
    from vastai.cli.main import main

    for name in COMMANDS:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"vastai.cli.commands.{name}")
    for line in sys.stdin:
        words, output, errors = json.loads(line)
        child = os.fork()
        if not child:
            signal.alarm(COMMAND_SECONDS)
            for number, path in enumerate((os.devnull, output, errors)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
            sys.argv = ["vastai", *words]
            sys.exit(main())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
