"""How the agent gets onto a machine: by the provider's on-start script, or by SSH where that did not bring it up."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import zipfile
from pathlib import Path
from typing import Protocol

import msgspec

ON_START_CHARACTERS_MOST = 4096
PUSH_SECONDS = 40.0
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAIN = "import sys\n\nfrom dumont.agent.host.main import main\n\nsys.exit(main(sys.argv[1:]))\n"
_UNIX = 3
_INSTANCE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is started with. `url`: its `/agent` serves `agent_file()`, its `/heartbeat` takes heartbeats.

    `instance` is the rental's label; `workspace` is absolute, or below the home; `lease_seconds` 0 has no lease.
    """

    url: str
    token: str
    machine: str
    instance: str
    epoch: int
    workspace: str = "workspace"
    interval_seconds: float = 5.0
    lease_seconds: float = 45.0

    def __repr__(self) -> str:
        return (
            f"AgentConfig(machine={self.machine!r}, epoch={self.epoch}, instance={self.instance!r}, url={self.url!r})"
        )


class AgentNotStarted(Exception):
    """The machine cannot run the agent; the message is what it said, without any secret."""


class Result(Protocol):
    """As `dumont.ports.CommandResult`."""

    @property
    def exit_status(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


class Session(Protocol):
    """As `dumont.ports.ShellSession`."""

    def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> Result: ...


@functools.cache
def agent_file() -> bytes:
    """The agent as one file that `python3` runs. The same sources give the same bytes, everywhere: it is not even
    compressed, as each zlib would do that in its own way.
    """
    folder = Path(__file__).parent / "host"
    sources = {"__main__.py": _MAIN.encode(), "dumont/__init__.py": b"", "dumont/agent/__init__.py": b""}
    sources |= {f"dumont/agent/host/{path.name}": path.read_bytes() for path in folder.glob("*.py")}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            archive.writestr(entry, content)
    return out.getvalue()


@functools.cache
def agent_sha256() -> str:
    """Of `agent_file()`, hexadecimal."""
    return hashlib.sha256(agent_file()).hexdigest()


def on_start(config: AgentConfig) -> str:
    """The script that a container runs at each of its starts, by any POSIX shell. Raises `ValueError` if it is too long
    for a provider.

    It leaves an agent that runs alone, and a configuration that SSH brought since: each start finds the same script.
    All is in a subshell, so that it never ends a script that it is a part of.
    """
    _check(config)
    script = f"""(
umask 077
HOME=${{HOME:-/root}}; export HOME
d=$HOME/.dumont/agent; u={shlex.quote(config.url.rstrip("/"))}/agent
h={agent_sha256()}
f=$d/$h.pyz; c=$d/config.json
say() {{ echo "dumont: $*" >&2; }}
mkdir -p "$d" || {{ say "no room in $d: no agent"; exit 0; }}
grep -qF '{_instance_line(config)}' "$c" 2>/dev/null || {{ cat >"$c.$$" <<'DUMONT'
{_config_json(config)}
DUMONT
mv -f "$c.$$" "$c"; }}
{_FIND_PYTHON}
[ -n "$p" ] || {{ say "no Python 3.8 or later: no agent"; exit 0; }}
sum() {{ if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1" | cut -c1-64
else "$p" -c 'import hashlib,sys;print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())' <"$1"; fi; }}
get() {{ curl -fsS -m 30 -o "$1" "$u" 2>/dev/null || wget -q -T 30 -O "$1" "$u" 2>/dev/null ||
"$p" -c 'import sys,urllib.request as r;open(sys.argv[2],"wb").write(r.urlopen(sys.argv[1],timeout=30).read())' \\
"$u" "$1" 2>/dev/null; }}
for w in 1 2 4 8 16 0; do
if [ -s "$f" ] && [ "$(sum "$f")" = "$h" ]; then umask 022; "$p" -IS "$f" --detach "$c"; exit 0; fi
if get "$f.$$"; then
if [ "$(sum "$f.$$")" != "$h" ]; then rm -f "$f.$$"; say "the agent that was fetched is not the right one"; exit 0; fi
mv -f "$f.$$" "$f"; else rm -f "$f.$$"; say "the agent cannot be fetched"; sleep $w; fi
done
)
"""
    if len(script) > ON_START_CHARACTERS_MOST:
        raise ValueError(f"the on-start script has {len(script)} characters; {ON_START_CHARACTERS_MOST} are allowed")
    return script


def push(session: Session, config: AgentConfig) -> str:
    """Bring the agent and its configuration over SSH and start it: "started" or "runs already" (with just these).

    One that runs with another configuration or program ends first, and its workload with it. Doing it twice is doing
    it once. Raises `AgentNotStarted`, and whatever the session raises.
    """
    _check(config)
    folder = '"$HOME"/.dumont/agent'
    program = f"{folder}/{agent_sha256()}.pyz"
    prepare = f"umask 077; mkdir -p {folder} && {{ wc -c <{program}; }} 2>/dev/null || echo 0"
    if _run(session, prepare) != str(len(agent_file())):
        # A transfer that breaks off leaves no file of the right name behind.
        _run(session, f"umask 077; cat >{program}.part && mv -f {program}.part {program}", stdin=agent_file())
    aside = f"{folder}/config.json.part"
    content = f"{_config_json(config)}\n".encode()
    _run(session, f"umask 077; cat >{aside} && mv -f {aside} {folder}/config.json", stdin=content)
    start = f"""{_FIND_PYTHON}
[ -n "$p" ] || {{ echo 'no Python 3.8 or later' >&2; exit 1; }}
umask 022; "$p" -IS {program} --detach --replace {folder}/config.json"""
    said = _run(session, start)
    word = said.rpartition("dumont agent: ")[2]
    if word not in ("started", "runs already"):
        raise AgentNotStarted(f"the agent: {said[-200:]}")
    return word


_FIND_PYTHON = """p=; for x in python3 python python3.14 python3.13 python3.12 python3.11 python3.10 \\
python3.9 python3.8 /opt/conda/bin/python3 /venv/main/bin/python3 /usr/local/bin/python3 /usr/bin/python3; do
if "$x" -c 'import sys;sys.exit(sys.version_info<(3,8))' 2>/dev/null; then p=$x; break; fi; done"""


def _check(config: AgentConfig) -> None:
    if not config.instance or not _INSTANCE_CHARACTERS.issuperset(config.instance):
        raise ValueError("an instance's name has letters, digits, dots, hyphens and underscores")


def _config_json(config: AgentConfig) -> str:
    # One line, and ASCII: no line of it can end the script's here-document.
    return json.dumps(msgspec.to_builtins(config), separators=(",", ":"))


def _instance_line(config: AgentConfig) -> str:
    return f'"instance":"{config.instance}"'


def _run(session: Session, script: str, *, stdin: bytes = b"") -> str:
    result = session.run(script, stdin=stdin, timeout_seconds=PUSH_SECONDS)
    if result.exit_status != 0:
        said = result.stderr or result.stdout
        raise AgentNotStarted(f"exit status {result.exit_status}: {said.decode('utf-8', 'replace').strip()[-200:]}")
    return result.stdout.decode("utf-8", "replace").strip()
