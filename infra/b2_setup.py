"""Sets up Backblaze B2 for Dumont: a private bucket that keeps what it holds, and a key for the control plane.

    B2_APPLICATION_KEY_ID=… B2_APPLICATION_KEY=… python infra/b2_setup.py BUCKET --project GOOGLE_PROJECT

Run it again and it changes nothing that is right already. The account's master key is read from the environment, or
asked for; it goes nowhere. The new key's secret goes into Secret Manager (--project), into a file that only you can
read (--out), or onto the screen (--show): one of them, as B2 tells it once.

Use a B2 account that Dumont has to itself. It makes a key of a few hours for each host, and B2 lets only a key that is
not bound to a bucket make others: whoever holds it could make one for all of the account.
"""

from __future__ import annotations

import argparse
import getpass
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from b2sdk.v3 import B2Api, InMemoryAccountInfo
from b2sdk.v3.exception import B2Error

KEY_NAME: Final = "dumont-control-plane"
CAPABILITIES: Final = (
    *("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"),
    *("listKeys", "writeKeys", "deleteKeys"),
)
"""What `dumont.adapters.b2` asks of its key: keys for hosts, and the files. No bucket is made, changed or deleted."""
LIFECYCLE: Final[Mapping[str, Any]] = {
    "fileNamePrefix": "",
    "daysFromUploadingToHiding": None,
    # Never: a host's key can hide what others need, and a hidden version must stay. Dumont deletes by version itself.
    "daysFromHidingToDeleting": None,
    # What a host began to upload and did not end is billed, and is in no listing.
    "daysFromStartingToCancelingUnfinishedLargeFiles": 7,
}
SECRETS: Final = ("dumont-b2-application-key-id", "dumont-b2-application-key")
"""In Secret Manager: the key's id, and the key."""


class SetupError(Exception):
    """What stands in the way; the message says what to do."""


@dataclass(frozen=True)
class NewKey:
    """A key just made. Its secret is told this once."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"


def ensure_bucket(api: B2Api, name: str) -> list[str]:
    """Make the bucket, or put it right; what was done, in words."""
    # Not by get_bucket_by_name, which may answer from memory, and then knows the id alone.
    bucket = next(iter(api.list_buckets(name)), None)
    if bucket is None:
        api.create_bucket(name, "allPrivate", lifecycle_rules=[dict(LIFECYCLE)])
        return [f"made the private bucket {name}"]
    done = []
    if bucket.type_ != "allPrivate":
        bucket = bucket.update(bucket_type="allPrivate")
        done.append(f"made {name} private, which it was not")
    rules = [rule for rule in bucket.lifecycle_rules if rule.get("fileNamePrefix") != ""]
    ours = [rule for rule in bucket.lifecycle_rules if rule.get("fileNamePrefix") == ""]
    if [{**dict.fromkeys(LIFECYCLE), **rule} for rule in ours] != [dict(LIFECYCLE)]:
        bucket.update(lifecycle_rules=[*rules, dict(LIFECYCLE)])
        done.append(f"set the lifecycle of {name}: unfinished uploads go after a week, nothing else goes by itself")
    return done or [f"the bucket {name} is as it should be"]


def keys(api: B2Api) -> list[str]:
    """The ids of the control plane's keys."""
    return [str(key.id_) for key in api.list_keys() if key.key_name == KEY_NAME]


def make_key(api: B2Api) -> NewKey:
    """A key with what the control plane needs."""
    made = api.create_key(capabilities=list(CAPABILITIES), key_name=KEY_NAME)
    return NewKey(str(made.id_), str(made.application_key))


def into_secret_manager(project: str, key: NewKey) -> str:
    """Add both as new versions. By standard input: a command line is anybody's to read. Raises `SetupError`."""
    for name, value in zip(SECRETS, (key.id, key.secret), strict=True):
        command = ["gcloud", "secrets", "versions", "add", name, f"--project={project}", "--data-file=-"]
        try:
            done = subprocess.run(command, input=value.encode(), capture_output=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SetupError(f"gcloud did not run: {type(error).__name__}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-300:]
            raise SetupError(f"gcloud did not take {name}: {said}")
    return f"put it into {SECRETS[0]} and {SECRETS[1]}"


def into_file(path: Path, key: NewKey) -> str:
    """Write both as environment variables, for this user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"B2_APPLICATION_KEY_ID={key.id}\nB2_APPLICATION_KEY={key.secret}\n")
    return f"wrote it to {path}: {_BY_HAND}"


def run(api: B2Api, wish: argparse.Namespace) -> list[str]:
    """Do as wished; what was done, in words. Raises `SetupError` or `B2Error`."""
    done = ensure_bucket(api, wish.bucket)
    known = keys(api)
    for key_id in wish.revoke:
        if key_id not in known:
            raise SetupError(f"{key_id} is none of the control plane's keys, which are: {', '.join(known) or 'none'}")
        api.delete_key_by_id(key_id)
        known.remove(key_id)
        done.append(f"revoked {key_id}")
    if known and not wish.rotate:
        return [*done, f"there is a key already: {', '.join(known)}. --rotate makes another"]
    keep = _keeper(wish)
    if keep is None:
        return [*done, "made no key: say where it goes, with --project, --out or --show"]
    made = make_key(api)
    done.append(f"made the key {made.id}")
    try:
        done.append(keep(made))
    except SetupError:
        api.delete_key_by_id(made.id)  # its secret is lost, so nobody can use it, and it would look like one in use
        raise
    done += [f"when all functions use the new one, end the old: --revoke {key_id}" for key_id in known]
    return done


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Sets up Backblaze B2 for Dumont.")
    parser.add_argument("bucket", help="its name: yours alone in all of B2, such as dumont-PROJECT")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--project", help="the Google Cloud project whose Secret Manager takes the key")
    where.add_argument("--out", type=Path, help="a new file for the key")
    where.add_argument("--show", action="store_true", help="print the key")
    parser.add_argument("--rotate", action="store_true", help="make another key, though there is one")
    parser.add_argument("--revoke", action="append", default=[], metavar="KEY_ID", help="end one of its keys")
    parser.add_argument("--realm", default=environment.get("DUMONT_B2_REALM", "production"), help=argparse.SUPPRESS)
    wish = parser.parse_args(arguments)
    try:
        key_id = environment.get("B2_APPLICATION_KEY_ID") or input("the account's master application key's id: ")
        key = environment.get("B2_APPLICATION_KEY") or getpass.getpass("the master application key: ")
        api = B2Api(InMemoryAccountInfo())
        api.authorize_account(key_id.strip(), key.strip(), realm=wish.realm)
        done = run(api, wish)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except B2Error as error:
        # Its name only: the texts of some hold what was sent.
        sys.stderr.write(f"B2 refused: {type(error).__name__}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in done))
    return 0


_BY_HAND = f"its two values belong into {SECRETS[0]} and {SECRETS[1]}"


def _keeper(wish: argparse.Namespace) -> Callable[[NewKey], str] | None:
    if wish.project:
        return lambda key: into_secret_manager(wish.project, key)
    if wish.out:
        return lambda key: into_file(wish.out, key)
    if wish.show:
        return lambda key: f"{SECRETS[0]}: {key.id}\n{SECRETS[1]}: {key.secret}"
    return None


if __name__ == "__main__":
    sys.exit(main())
