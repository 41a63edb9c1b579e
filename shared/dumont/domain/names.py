"""Names of machines, and the labels that our instances bear at providers."""

from __future__ import annotations

import re
import zlib

from dumont.domain.errors import InvalidInput
from dumont.domain.records import SHARDS

MACHINE_NAME = r"^[a-z][a-z0-9-]{0,39}$"
_MACHINE_NAME = re.compile(MACHINE_NAME)
_DEPLOYMENT = re.compile(r"^[a-z0-9]{1,16}$")


def check_machine_name(name: object) -> str:
    """The name, if it is one: a letter, then up to 39 letters, digits and hyphens, all lower case."""
    if not isinstance(name, str) or not _MACHINE_NAME.fullmatch(name):
        raise InvalidInput(
            "a machine's name starts with a letter and has up to 40 lower-case letters, digits and hyphens",
            field="name",
            hint="for example: trainer-1",
        )
    return name


def check_deployment(name: str) -> str:
    """The deployment's name, if it is one: it parts our labels from those of another Dumont in the same account."""
    if not _DEPLOYMENT.fullmatch(name):
        raise InvalidInput("a deployment's name has 1 to 16 lower-case letters and digits", field="DUMONT_DEPLOYMENT")
    return name


def label_prefix(deployment: str) -> str:
    """What each label of ours begins with. An instance whose label does not is never touched (invariant 2)."""
    return f"dumont.{deployment}."


def instance_label(deployment: str, machine: str, epoch: int, unique: str) -> str:
    """A label that no other create call bears: by it an instance is found whose create's answer was lost."""
    return f"{label_prefix(deployment)}{machine}.{epoch}.{unique}"


def machine_of_label(deployment: str, label: str) -> tuple[str, int] | None:
    """The machine's name and epoch in a label of ours; None for a label that is not ours."""
    prefix = label_prefix(deployment)
    if not label.startswith(prefix):
        return None
    parts = label[len(prefix) :].split(".")
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return parts[0], int(parts[1])


def shard_of(record_id: str) -> int:
    """The shard of a record's deadline: the same on every machine and version (so not Python's `hash`)."""
    return zlib.crc32(record_id.encode()) % SHARDS
