"""One job as JSON on standard input; progress and the result as JSON lines on standard output.

The last line is {"event": "result", "action": …, …} with exit status 0 (a snapshot that is not complete, a verification
that found damage: 3), or {"event": "error", "code", "message", "files"} with exit status 1.
"""

from __future__ import annotations

from .command import run

if __name__ == "__main__":
    run()
