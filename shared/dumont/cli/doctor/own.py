"""The command line's own set-up: Python, files, the API, its key and clock, SSH."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from dumont.cli.client import Client, is_local
from dumont.cli.credentials import config_folder, credentials_file, read_key
from dumont.cli.errors import CliError, Json
from dumont.cli.keys import key_file
from dumont.domain.findings import Finding, State, missing, ok, skew, skipped, unknown, warning

AREA = "cli"
PYTHON = (3, 11)


def here() -> Iterator[Finding]:
    """What needs no one else."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] >= PYTHON:
        yield ok(AREA, "python", version)
    else:
        yield missing(AREA, "python", f"{version} is older than 3.11", "make distclean setup PYTHON=python3.11")
    yield _private(config_folder(), "config folder", 0o700, "dumont makes it when it first keeps something")
    yield _credentials(credentials_file())
    ssh = shutil.which("ssh")
    if ssh:
        yield ok(AREA, "ssh", ssh)
    else:
        yield missing(AREA, "ssh", "there is no ssh: `dumont ssh` needs it", "sudo apt-get install openssh-client")
    yield _private(key_file(), "ssh key", 0o600, "none yet: `dumont up` makes it, and has it let in")


def _credentials(path: Path) -> Finding:
    """The file of keys. What cannot be read holds no key for the other commands: here it is said."""
    found = _private(path, "credentials file", 0o600, "no key is kept: `dumont local up` writes its own")
    if found.state is not State.OK:
        return found
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, dict):
        return found
    mend = f"mv '{path}' '{path}.old'  # then `dumont local up` writes its own, or set DUMONT_API_KEY"
    return missing(AREA, found.name, f"{path} is no JSON object: no key in it is found", mend)


def _private(path: Path, name: str, mode: int, absent: str) -> Finding:
    """Whether what is there is its owner's alone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return skipped(AREA, name, f"{path}: {absent}")
    except OSError as error:
        return missing(AREA, name, f"{path} cannot be looked at: {error.strerror}", f"ls -ld '{path}'")
    others = stat.S_IMODE(found.st_mode) & 0o077
    if found.st_uid != os.getuid():
        return missing(AREA, name, f"{path} is somebody else's", f"sudo chown \"$USER\" '{path}'")
    if others:
        says = f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):o})"
        return missing(AREA, name, says, f"chmod {mode:o} '{path}'")
    return ok(AREA, name, str(path))


def api(url: str) -> Iterator[Finding]:
    """The API: there, ours, what our key may do there, and its clock."""
    source = "DUMONT_API_KEY" if os.environ.get("DUMONT_API_KEY") else "the credentials file"
    has_key = bool(os.environ.get("DUMONT_API_KEY") or read_key(url))
    try:
        client = Client(url, timeout_seconds=10.0)
    except CliError as error:  # a key that cannot even be sent
        yield missing("api", "key", f"that of {source}: {error.detail}", error.hint)
        return
    with client:
        try:
            client.get("machines")
        except CliError as error:
            yield from _no_answer(url, error, has_key=has_key, source=source)
            if error.problem.get("code") in ("unreachable", "no_answer", "not_dumont"):
                return
        else:
            yield ok("api", "url", f"{url} answers")
            yield _role(client, source)
        yield skipped("api", "version", "the API tells no version of its own: it is as its last deployment left it")
        yield skew("api", "the API", client.clock_skew_seconds)


def _no_answer(url: str, error: CliError, *, has_key: bool, source: str) -> Iterator[Finding]:
    code = str(error.problem.get("code"))
    if code in ("no_key", "wrong_key", "unauthenticated"):
        yield ok("api", "url", f"{url} answers")
        says = f"that of {source} is refused" if has_key else f"none is kept for {url}"
        yield missing("api", "key", says, _mend_of_key(url))
    elif code in ("unreachable", "not_dumont"):
        yield missing("api", "url", error.detail, error.hint)
    else:
        yield unknown("api", "url", error.detail, error.hint or "dumont doctor")


def _mend_of_key(url: str) -> str:
    if not is_local(url):
        return "export DUMONT_API_KEY=dmt_…  # an admin makes one"
    # The variable wins over the file in which a local cloud writes its own.
    return "unset DUMONT_API_KEY" if os.environ.get("DUMONT_API_KEY") else "dumont local up"


def _role(client: Client, source: str) -> Finding:
    """By what it may see: operators the audit log. That a key is an admin's shows nowhere."""
    try:
        client.get("audit", limit=1)
    except CliError as error:
        if error.problem.get("status") == 403:
            return ok("api", "key", f"that of {source}: it may look, and change nothing (viewer)")
        return warning("api", "key", f"that of {source} is taken; its role was not told: {error.detail}")
    return ok("api", "key", f"that of {source}: operator or more")


def first_of(listed: object) -> Json:
    """The first object of a list, or an empty one."""
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
