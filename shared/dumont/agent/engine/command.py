"""What `python3 engine.pyz` does."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import BadJob, EngineError
from .inspect_snapshot import diff, list_files, verify
from .job import parse_job
from .restore import restore
from .snapshot import snapshot
from .status import status

if TYPE_CHECKING:
    from typing import TextIO

FINE, FAILED, WANTING = 0, 1, 3
JOB_BYTES_MAX = 64 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ACTIONS: dict[str, Any] = {
    "snapshot": snapshot,
    "restore": restore,
    "verify": verify,
    "diff": diff,
    "list": list_files,
    "status": status,
}


def main(source: TextIO | None = None, out: TextIO | None = None) -> int:
    """Carry out the job; the exit status."""
    lines = out or sys.stdout
    lock = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with lock:
            lines.write(json.dumps(line) + "\n")
            lines.flush()

    _prepare()
    try:
        text = (source or sys.stdin).read(JOB_BYTES_MAX)
        try:
            raw = json.loads(text)
        except ValueError:
            raise BadJob("standard input is not one JSON object") from None
        job = parse_job(raw)
        result = _ACTIONS[job.action](job, say)
    except EngineError as error:
        say({"event": "error", "code": error.code, "message": error.message, "files": error.files})
        return FAILED
    except (OSError, MemoryError) as error:
        say({"event": "error", "code": "host", "message": _plain(error), "files": []})
        return FAILED
    say({"event": "result", "action": job.action, **dataclasses.asdict(result)})
    whole = result.complete if job.action == "snapshot" else getattr(result, "ok", True)
    return FINE if whole else WANTING


def run() -> NoReturn:
    """Carry out the job and end this process, which is nobody else's."""
    # Nothing looks for cycles in the tables of a large manifest: there are none, and looking took a tenth of the time.
    gc.disable()
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # What is left is memory, and to take a large manifest apart object by object takes longer than to drop it.
    os._exit(status)


def _prepare() -> None:
    """Make this process fit for the work: nothing of the host's own AWS settings gets into our store client, and the
    allocator keeps the few large buffers that come and go instead of asking the kernel for fresh pages each time.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)  # the most that glibc takes
    mallopt(_M_TRIM_THRESHOLD, 256 * 1024 * 1024)


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}" + (f": {error.filename!r}" if error.filename else "")
    return type(error).__name__
