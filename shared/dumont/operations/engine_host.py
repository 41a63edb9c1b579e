"""The snapshot engine on a host, over a shell: put there, started with its job on standard input, asked how far it is.

No byte of a workspace passes through here. The job holds keys: it goes over SSH into the engine's standard input, and
is never on the host's disk, in its environment or on a command line (invariant 9).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import Any

import msgspec

from dumont.domain.errors import ShellError
from dumont.ports import EngineFiles, ShellSession

ROOT = '"$HOME"/.dumont'
START_SECONDS = 40.0
INSTALL_SECONDS = 180
WATCHED_SECONDS = 2.5
"""How long a start stays to see the end: small workspaces are done by then, and nobody has to come back to ask."""

# Whether they are there, without importing them, which takes ten times as long; the engine itself goes without what it
# then cannot import.
_HAS_PACKAGES = (
    "import importlib.util as u, sys; "
    'sys.exit(not all(map(u.find_spec, ("blake3", "cryptography", "numpy", "obstore", "zstandard"))))'
)


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: its last line (progress, result or error), and whether it has ended, or died without a word."""

    last: dict[str, Any]
    ended: bool
    died: bool


def prepare(session: ShellSession, workspace: str, engine: EngineFiles) -> tuple[str, str]:
    """Make the folders and put the engine there if it is not; answers with the workspace's and the home's paths.

    Raises `ShellError` if the host cannot.
    """
    program, wheels = _names(engine)
    script = (
        f"umask 077; mkdir -p {ROOT}/engine {ROOT}/runs {ROOT}/state && mkdir -p -- {shlex.quote(workspace)} && "
        f"(cd -- {shlex.quote(workspace)} && pwd -P) && (cd && pwd -P) && "
        f"if [ -s {program} ] && [ -s {wheels} ]; then echo present; else echo absent; fi"
    )
    lines = _run(session, script).splitlines()
    if len(lines) != 3 or not lines[0].startswith("/") or not lines[1].startswith("/"):
        raise ShellError("the host's answer cannot be read")
    if lines[2] != "present":
        for target, content in ((wheels, engine.wheels), (program, engine.program)):
            # A transfer that breaks off leaves no file of the right name behind.
            _run(session, f"cat > {target}.part && mv {target}.part {target}", stdin=content)
    return lines[0], lines[1]


def start(session: ShellSession, run: str, engine: EngineFiles, job: dict[str, Any]) -> bool:
    """Start a run, once: its folder is the lock, so that a start repeated after a death starts nothing twice. Answers
    whether it has ended already.

    The job stays in the shell's memory while the packages are installed, which a host does once, each by its hash; a
    host that cannot runs the engine without them.
    """
    program, wheels = _names(engine)
    script = f"""
umask 077
mkdir {ROOT}/runs/{shlex.quote(run)} 2>/dev/null || exit 0
cd {ROOT}/runs/{shlex.quote(run)} || exit 1
job=$(cat)
(
  trap '' HUP
  fast='{_HAS_PACKAGES}'
  python=python3
  if ! python3 -c "$fast" 2>/dev/null; then
    venv={ROOT}/venv
    if ! "$venv/bin/python" -c "$fast" 2>/dev/null; then
      python3 -m venv "$venv" && timeout {INSTALL_SECONDS} "$venv/bin/python" -m pip install -q \
        --disable-pip-version-check --require-hashes --only-binary :all: -r {wheels}
    fi >install.log 2>&1
    if "$venv/bin/python" -c "$fast" 2>/dev/null; then python="$venv/bin/python"; fi
  fi
  printf '%s' "$job" | "$python" {program} >out.jsonl 2>err.log
  echo $? >status
) </dev/null >/dev/null 2>&1 &
echo $! >pid
i=0
while [ ! -f status ] && {{ [ ! -s out.jsonl ] || [ $i -lt {WATCHED_SECONDS * 10:.0f} ]; }} && [ $i -lt 50 ]; do
  sleep 0.1; i=$((i+1))
done
if [ -f status ]; then echo ended; fi
exit 0
"""
    return _run(session, script, stdin=json.dumps(job).encode()).strip() == "ended"


def _names(engine: EngineFiles) -> tuple[str, str]:
    """Where the program and the lock lie on a host: named by content, so that each version has its own."""
    program = f"{ROOT}/engine/{hashlib.sha256(engine.program).hexdigest()[:32]}.pyz"
    return program, f"{ROOT}/engine/{hashlib.sha256(engine.wheels).hexdigest()[:32]}.txt"


def poll(session: ShellSession, run: str) -> EngineState:
    """How far a run is. Raises `ShellError` if that cannot be read: unreadable is neither done nor dead."""
    script = f"""
cd {ROOT}/runs/{shlex.quote(run)} 2>/dev/null || {{ echo gone; exit 0; }}
if [ -f status ]; then echo ended
elif [ ! -f pid ]; then echo starting
elif kill -0 "$(cat pid)" 2>/dev/null; then echo running
elif [ -f status ]; then echo ended
else echo died; fi
tail -n 1 out.jsonl 2>/dev/null
"""
    text = _run(session, script)
    word, _, rest = text.partition("\n")
    if word not in ("ended", "starting", "running", "died", "gone"):
        raise ShellError("the host's answer cannot be read")
    return EngineState(last=_line(rest), ended=word == "ended", died=word in ("died", "gone"))


def _line(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError:
        return {}  # a line half written, or a host that talks nonsense
    return value if isinstance(value, dict) else {}


def _run(session: ShellSession, script: str, *, stdin: bytes = b"") -> str:
    result = session.run(script, stdin=stdin, timeout_seconds=START_SECONDS)
    if result.exit_status != 0:
        said = result.stderr.decode("utf-8", "replace").strip()
        raise ShellError(f"exit status {result.exit_status}: {said[:200]}")
    return result.stdout.decode("utf-8", "replace")
