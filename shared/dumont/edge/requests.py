"""The shapes of what callers send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dumont.adapters.shapes import ready
from dumont.domain.errors import InvalidInput
from dumont.domain.names import MACHINE_NAME, check_machine_name
from dumont.domain.records import MachineSpec
from dumont.edge.http import Call, decode, invalid

MachineName = Annotated[str, Meta(extra_json_schema={"pattern": MACHINE_NAME}, examples=["trainer"])]
"""Checked by `check_machine_name`, in words that help more than a pattern: here it is for the OpenAPI document."""


class DestroyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to destroy; `discard` says that its workspace may be lost, `snapshot` that it is saved first."""

    name: MachineName
    discard: bool = False
    snapshot: bool = False


class FailoverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to move; `discard` says that what no snapshot has may be lost with its old host.
    `drill`: it is rehearsed on another host, and nothing is moved."""

    name: MachineName
    discard: bool = False
    drill: bool = False


class HibernateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to put to sleep; `tier` pause keeps the stopped instance, hibernate keeps the snapshot alone."""

    name: MachineName
    tier: Literal["pause", "hibernate"] = "hibernate"


class WakeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to wake."""

    name: MachineName


class ListMachines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether destroyed machines are listed too."""

    all: bool = False


class TailLogs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the last lines."""

    tail: Annotated[int, Meta(ge=1, le=5000)] = 100


class ListOperations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which machine (None: all), and how many."""

    machine: MachineName | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class SweepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to sweep (Cloud Scheduler's finest interval is a minute), and how often."""

    seconds: Annotated[float, Meta(ge=0, le=110)] = 58.0
    every_seconds: Annotated[float, Meta(ge=0.1, le=60)] = 3.0


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine whose workspace to copy; `rehash`: read every file, not only those whose size or times changed."""

    name: MachineName
    rehash: bool = False


class KeepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether to keep a snapshot for ever."""

    keep: bool


class KeepAwakeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long from now on a machine is not to sleep by itself; 0: no longer."""

    seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)]


class DiffRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The snapshot to compare with: the later of the two."""

    other: Annotated[str, Meta(max_length=64)]


class ListSnapshots(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which machine; None: all."""

    machine: MachineName | None = None


class RestoreRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to restore into; which snapshot (None: the newest good one), which path of it (empty: all), whether
    to go on with the one before if it is damaged, and whether what is there and in no snapshot may be lost."""

    name: MachineName
    snapshot: Annotated[str, Meta(max_length=64)] | None = None
    path: Annotated[str, Meta(max_length=4096)] = ""
    fall_back: bool = False
    discard: bool = False


def read_provision(call: Call) -> tuple[str, MachineSpec]:
    """The name and the spec of a provision's body. Raises `InvalidInput` naming the field."""
    body = decode(call.raw_body(), dict[str, msgspec.Raw])
    return machine_of({field: decode(bytes(value), object) for field, value in body.items()})


def machine_of(asked: dict[str, Any]) -> tuple[str, MachineSpec]:
    """The name and the spec of a machine that is asked for, by the API's fields. Raises `InvalidInput`."""
    fields = dict(asked)
    if "name" not in fields:
        raise InvalidInput("a machine needs a name", field="name", hint="for example: trainer-1")
    name = check_machine_name(fields.pop("name"))
    if "template" in fields:
        from dumont.edge import advising  # as below: most machines are of none

        fields = advising.filled(fields)
    try:
        spec = msgspec.convert(fields, ready(MachineSpec))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    if spec.wake_at or spec.sleep_at or spec.time_zone != "UTC":
        from dumont.domain import timetable  # few machines have one: a cold start need not read cron for them

        timetable.check(spec)
    return name, spec
