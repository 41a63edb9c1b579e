"""The file of API keys: `$XDG_CONFIG_HOME/dumont/credentials.json`, mode 0600, `{"<url>": "<key>"}`.

The local cloud writes its key here when it starts, so that `dumont` works at once; a person may add others.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 (names to fold, nothing is bound)


def config_folder() -> Path:
    """Where Dumont keeps what is the user's: `$XDG_CONFIG_HOME/dumont`, by default `~/.config/dumont`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path there is to be ignored.
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".config") / "dumont"


def credentials_file(folder: Path | None = None) -> Path:
    """The file of keys, in the user's folder or in another; it may not exist."""
    return (folder or config_folder()) / "credentials.json"


def normal_url(url: str) -> str:
    """One spelling for each place: lower case, no trailing slash, and localhost for each name of the own machine."""
    parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
    host = (parts.hostname or "").lower()
    host = "localhost" if host in _LOOPBACK else host
    scheme = parts.scheme.lower()
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 0)
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"


def read_key(url: str, *, folder: Path | None = None) -> str | None:
    """The key for the API at `url`, or None. A file that is missing or broken holds no key."""
    return _load(credentials_file(folder)).get(normal_url(url))


def write_key(url: str, key: str) -> None:
    """Keep the key for the API at `url`; others stay as they are."""
    _change(lambda keys: keys | {normal_url(url): key})


def remove_key(url: str) -> None:
    """Forget the key for the API at `url`, if there is one."""
    if credentials_file().exists():
        _change(lambda keys: {known: key for known, key in keys.items() if known != normal_url(url)})


def _load(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    if not isinstance(found, dict):
        return {}
    keys: dict[str, str] = {}
    for url, key in found.items():
        if isinstance(key, str):
            try:
                keys[normal_url(url)] = key
            except ValueError:  # someone wrote a port that is none: that entry leads nowhere
                continue
    return keys


def _change(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    path = credentials_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        before = _load(path)
        if not before and path.exists() and path.stat().st_size > 2:
            # Unreadable is not empty: whatever a person wrote there is kept beside it.
            path.replace(path.with_suffix(".json.unreadable"))
        write_private(path, json.dumps(change(before), indent=2, sort_keys=True) + "\n")


def write_private(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a file that only its owner can read, whole or not at all, even if the power fails in the midst of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors=errors) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: two processes that change the same file at once must not lose each other's change."""
    import fcntl

    with path.open("a") as file:
        path.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
