"""Snapshots: their record, which of them retention lets go, and what a snapshot or restore does next. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from dumont.domain.actions import (
    Abandon,
    Action,
    CollectGarbage,
    Finish,
    GiveUp,
    InspectWorkspace,
    PollEngine,
    StartEngine,
    VerifySnapshot,
    Wait,
)
from dumont.domain.records import Machine, MachineSpec, MachineState, Operation, OperationKind, Problem, Record


class SnapshotState(enum.StrEnum):
    """Only COMPLETE and INCOMPLETE were verified; nothing else is ever restored, or counts before a destroy."""

    TAKING = "taking"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # verified, but files that could not be read are missing, and named
    FAILED = "failed"
    DELETED = "deleted"


class Pack(msgspec.Struct, frozen=True):
    """An object that a snapshot needs: its key, size in bytes and MD5 (hex), as the engine sent it."""

    key: str
    size: int
    md5: str


class Snapshot(Record, frozen=True, kw_only=True):
    """A copy of a workspace. `manifest_sha256` is kept here, so that no host can put another manifest in its place."""

    collection: ClassVar[str] = "snapshots"

    machine: str
    epoch: int
    operation_id: str
    state: SnapshotState
    created_at: float
    reason: str = "user"
    completed_at: float | None = None
    deep_verified_at: float | None = None
    manifest: Pack | None = None
    manifest_sha256: str = ""
    packs: tuple[Pack, ...] = ()
    files: int = 0
    bytes_total: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    missing: tuple[str, ...] = ()
    """Paths that could not be read, or changed while they were; at most 50 of them."""
    keep: bool = False
    problem: Problem | None = None
    """Of a failed one: why. Of a verified one: what was found damaged when its content was read, and when."""
    damaged_at: float | None = None

    @property
    def restorable(self) -> bool:
        """Whether it was verified and is still there. A damaged one counts: most of it may still be whole."""
        return self.state in (SnapshotState.COMPLETE, SnapshotState.INCOMPLETE)

    @property
    def good(self) -> bool:
        """Whether it has all files, and nobody has found damage in it: what may stand for a workspace."""
        return self.state is SnapshotState.COMPLETE and self.problem is None


class Collected(Record, frozen=True, kw_only=True):
    """The packs of a machine (`id`) that were deleted since its last good snapshot: written before they are, so that
    no host goes on referring to what is gone."""

    collection: ClassVar[str] = "collected"

    keys: tuple[str, ...] = ()


def machine_prefix(machine: str) -> str:
    """Where all of a machine's objects lie: what its restore keys may read."""
    return f"machines/{machine}/"


def epoch_prefix(machine: str, epoch: int) -> str:
    """Where one epoch's objects lie: what its snapshot keys may write. An old host cannot write the new epoch's."""
    return f"{machine_prefix(machine)}{epoch}/"


def newest_good(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The newest that is complete and not damaged."""
    return max((s for s in snapshots if s.good), key=lambda s: s.created_at, default=None)


def by_preference(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Those that can be restored: whole ones before damaged, complete before incomplete, newer before older."""
    return sorted(
        (s for s in snapshots if s.restorable),
        key=lambda s: (s.problem is None, s.state is SnapshotState.COMPLETE, s.created_at),
        reverse=True,
    )


# --- Retention ----------------------------------------------------------------------------------------------------


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which snapshots stay: the last so many, and the newest of each of the last hours and days that have one."""

    last: int
    hourly: int
    daily: int


def retention(spec: MachineSpec) -> Retention:
    """What a machine's user wants to keep."""
    return Retention(last=spec.keep_last, hourly=spec.keep_hourly, daily=spec.keep_daily)


def let_go(snapshots: Sequence[Snapshot], policy: Retention) -> list[Snapshot]:
    """The snapshots that retention lets go, oldest first.

    Never the newest good one (nor the newest complete one), never one that is kept by its user's word, never one that
    is being taken.
    """
    newest_first = sorted((s for s in snapshots if s.restorable), key=lambda s: s.created_at, reverse=True)
    kept = {s.id for s in newest_first if s.keep} | {s.id for s in newest_first[: policy.last]}
    complete = [s for s in newest_first if s.state is SnapshotState.COMPLETE]
    good = newest_good(complete)
    kept |= {s.id for s in complete[:1]} | ({good.id} if good is not None else set())
    for seconds, count in ((3600.0, policy.hourly), (86400.0, policy.daily)):
        newest_of: dict[int, str] = {}
        for snapshot in newest_first:
            newest_of.setdefault(int(snapshot.created_at // seconds), snapshot.id)
        kept |= {newest_of[slot] for slot in sorted(newest_of, reverse=True)[:count]}
    failed = [s for s in snapshots if s.state is SnapshotState.FAILED]
    return sorted([s for s in newest_first if s.id not in kept] + failed, key=lambda s: s.created_at)


SETTLE_SECONDS = 600.0
"""A machine that has just begun to serve, anew or again, is left to it for so long before it is copied."""


def due_at(machine: Machine, taken: Sequence[Snapshot]) -> float | None:
    """When the machine's policy wants its next snapshot: so long after the last one was begun, in this epoch, as the
    spec says; a failed one counts, so that what cannot succeed is not tried each moment. Before the first of an epoch
    it counts from the newest complete one of those before, or hosts that die more often than that would let none be
    taken for ever. At once where its newest complete one was found damaged and none was begun since. None without a
    policy."""
    every_minutes = machine.spec.snapshot_every_minutes
    if every_minutes is None or machine.running_since is None:
        return None
    newest = max((s for s in taken if s.state is SnapshotState.COMPLETE), key=lambda s: s.created_at, default=None)
    begun = [s.created_at for s in taken if s.epoch == machine.epoch]
    if newest is not None and newest.damaged_at is not None and max(begun, default=0.0) <= newest.damaged_at:
        return newest.damaged_at
    every_seconds = every_minutes * 60.0
    if begun or newest is None or newest.created_at < machine.created_at:
        return max([machine.running_since, *begun]) + every_seconds
    return max(newest.created_at + every_seconds, machine.running_since + min(SETTLE_SECONDS, every_seconds))


VERIFY_AGAIN_SECONDS = 86400.0
"""A deep verification that was begun and came to no answer is tried again after this."""


def verify_due_at(machine: Machine, taken: Sequence[Snapshot]) -> float | None:
    """When the machine's policy wants its newest good snapshot read back; None without a policy or such a snapshot."""
    every_days = machine.spec.verify_every_days
    if machine.spec.snapshot_every_minutes is None or every_days is None or machine.running_since is None:
        return None
    if newest_good(taken) is None:
        return None
    if machine.verify_after is not None:
        return machine.verify_after
    return machine.running_since + every_days * 86400.0


def garbage(
    objects: Mapping[str, float], snapshots: Sequence[Snapshot], now: float, *, grace_seconds: float
) -> list[str]:
    """The keys of objects that no snapshot needs, by key → time of upload.

    While a snapshot is being taken nothing is garbage: it may refer to any pack that its host ever sent. What is
    younger than the grace may belong to one whose record we do not see yet.
    """
    if any(s.state is SnapshotState.TAKING for s in snapshots):
        return []
    needed = {pack.key for s in snapshots if s.restorable for pack in s.packs}
    needed |= {s.manifest.key for s in snapshots if s.restorable and s.manifest is not None}
    return sorted(key for key, at in objects.items() if key not in needed and at < now - grace_seconds)


# --- What a snapshot or restore does next -------------------------------------------------------------------------

ENGINE_SECONDS_MAX = 6 * 3600.0
UNREACHABLE_SECONDS_MAX = 300.0
MAX_ATTEMPTS = 3
LOOKING = "look"
"""A restore looks whether its workspace is empty; if not, CHECK compares it with its snapshots."""
CHECK, CHECKING = "check", "checking"
STARTING, RUNNING = "start", "running"
COPY, COPYING = "copy", "copying"
"""A destroy takes a snapshot first."""
VERIFYING, COLLECTING, DONE = "verify", "collect", "done"
RUNS = {CHECK: CHECKING, STARTING: RUNNING, COPY: COPYING}
"""Phase in which an engine is to be started → phase in which it runs."""
START_OF = {running: start for start, running in RUNS.items()}


SAVES_FIRST = (OperationKind.DESTROY, OperationKind.HIBERNATE, OperationKind.FAILOVER, OperationKind.FINISH)
"""The kinds of operation that let a host go once a snapshot that they take of it is verified."""


def engine_action(op: Operation) -> str:
    """What the engine on the host does for the operation in its present phase."""
    if op.phase in (CHECK, CHECKING):
        return "status"
    return "snapshot" if op.kind in SAVES_FIRST else op.kind.value


def decide(op: Operation, machine: Machine | None, now: float) -> Action:
    """The next action of a snapshot or a restore: start the engine on the host, watch it, verify what it sent."""
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.phase == DONE or op.problem is not None:
        return Finish()
    if machine.state is not MachineState.RUNNING or machine.instance_id is None:
        return GiveUp(Problem(code="not_running", detail=f"{machine.id} is {machine.state.value}"))
    if op.phase == COLLECTING and now <= op.created_at + ENGINE_SECONDS_MAX:
        return CollectGarbage()
    return run_engine(op, machine.instance_id, now)


def run_engine(op: Operation, instance_id: str, now: float) -> Action:
    """What the engine's part of an operation does next, in whatever phase it is."""
    if now > op.created_at + ENGINE_SECONDS_MAX:
        return GiveUp(Problem(code="timed_out", detail=f"it was not done within {ENGINE_SECONDS_MAX / 3600:.0f} hours"))
    if now < op.not_before:
        return Wait(op.not_before)
    if op.phase == VERIFYING:
        return VerifySnapshot()
    if op.phase in START_OF:
        return PollEngine()
    return StartEngine() if op.phase in RUNS else InspectWorkspace(instance_id)
