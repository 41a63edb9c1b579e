"""What is kept in the store: one frozen record a document. Times are seconds since the epoch, UTC; money is USD.

A record's `collection` names where it lives and `id` is its key there; `domain.record` says how records change.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec

from dumont.domain.evidence import Evidence
from dumont.domain.offers import Offer
from dumont.domain.record import Migration as Migration
from dumont.domain.record import Record as Record
from dumont.domain.specs import MachineSpec as MachineSpec
from dumont.domain.specs import PublicKey as PublicKey
from dumont.domain.turns import Traffic, Turn

SHARDS = 8
"""Deadlines are indexed with a shard: an index that only grows holds Firestore to 500 writes a second."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something ended badly: what happened (`detail`), what was kept safe (`safe`), what to do next (`hint`)."""

    code: str
    detail: str
    safe: str = ""
    hint: str = ""


# --- Machines -----------------------------------------------------------------------------------------------------


class MachineState(enum.StrEnum):
    """The states of a machine; `domain.states` says which may follow which."""

    REQUESTED = "requested"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    FAILING_OVER = "failing_over"
    HIBERNATING = "hibernating"
    HIBERNATED = "hibernated"
    WAKING = "waking"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"
    FAILED = "failed"


class SshEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where SSH answers. `user` is root on every rented container."""

    host: str
    port: int
    user: str = "root"


class Machine(Record, frozen=True, kw_only=True):
    """What a user names and keeps; `id` is its name. It outlives instances, and `epoch` grows each time it moves.

    `operation_id` is the one operation that may change it now: the guard against two at once.
    """

    collection: ClassVar[str] = "machines"

    spec: MachineSpec
    state: MachineState
    epoch: int
    created_at: float
    updated_at: float
    created_by: str = ""
    operation_id: str | None = None
    instance_id: str | None = None
    paused_instance_id: str | None = None
    """Of a machine that sleeps: the stopped instance whose disk is kept, to be started again."""
    slept_at: float | None = None
    unused_since: float | None = None
    """Of one that sleeps: since when nothing has used it; None where it was put to sleep in the middle of its work."""
    timetable_at: float = 0.0
    """Up to when its timetable was honoured."""
    keep_until: float = 0.0
    """It does not go to sleep by itself before this."""
    last_request_at: float = 0.0
    """When a request last came through the gateway."""
    gateway_generation: int = 0
    """Gateway tokens of earlier generations do not count any more."""
    ssh: SshEndpoint | None = None
    host_key: str | None = None
    running_since: float | None = None
    ended_at: float | None = None
    failure: Problem | None = None
    deadline: float | None = None
    """When the sweep must look at it again (its budget runs out); None where nothing is due."""
    spare_instance_id: str | None = None
    """Its spare: a second host, kept restored to the last snapshot, that never serves while it is one."""
    spare_operation_id: str | None = None
    """The one operation that may have a second host now: it makes or tends the spare, or rehearses a failover."""
    spare_after: float | None = None
    """Before this no spare is made: the last try failed."""
    spare_failures: int = 0
    verify_after: float | None = None
    """Before this, no deep verification is begun by policy; None: none was yet."""
    job_id: str | None = None
    """The job that it was made for."""
    workload_held: bool = False
    """Its workload is not to run now, although it serves."""
    filled_from: str | None = None
    """The snapshot, of whatever machine, that its workspace began with: until it has its own, it returns to that."""
    shard: int = 0


# --- Instances ----------------------------------------------------------------------------------------------------


class InstanceState(enum.StrEnum):
    """One rental's life in our books. It is gone only when the provider says so (invariant 3)."""

    INTENDED = "intended"  # written before the create call: the call may have been made, or not
    CREATED = "created"  # the provider gave it an id; it boots
    BOOTED = "booted"  # the provider says that it runs and where SSH should answer
    STOPPED = "stopped"  # a spare that is stopped, or being stopped (`stopped_at`): its disk has a snapshot's files
    PROVEN = "proven"  # SSH, workspace, GPU and disk were tried, and are as offered
    LOST = "lost"  # it backed a machine and was fenced: it is not to serve, and may hold what no snapshot has
    RELEASING = "releasing"  # to be destroyed, until the provider says that it is gone
    GONE = "gone"


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a proof tried: its name, whether it held, what was seen, and how long it took."""

    name: str
    ok: bool
    seconds: float
    seen: str = ""


class GpuReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A GPU as its own driver reports it."""

    model: str
    vram_mib: float | None = None
    driver_version: str | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a proof tried on an instance and what it saw. It holds if every check does."""

    checks: tuple[Check, ...]
    started_at: float
    seconds: float
    gpus: tuple[GpuReading, ...] = ()
    disk_free_gb: float | None = None
    host_key: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every check held, and at least one was made."""
        return bool(self.checks) and all(check.ok for check in self.checks)


KEPT_DISK = "disk"


class Instance(Record, frozen=True, kw_only=True):
    """One rental at a provider, for one epoch of a machine; `id` is the unique label that it bears there."""

    collection: ClassVar[str] = "instances"

    machine: str
    epoch: int
    rented_by: str
    """The operation that rented it."""
    operation_id: str
    """The operation that answers for it now: it changes when another takes the machine over."""
    provider: str
    offer: Offer
    disk_gb: float
    state: InstanceState
    open: bool = True
    """False once gone: what the books still hold is a query, not a scan."""
    intended_at: float
    provider_instance_id: str | None = None
    outcome_unknown: bool = False
    """Whether a create call may have been made whose answer we never read: found again by its label."""
    keys_attached: bool = False
    agent_sent: bool = False
    """Whether its on-start script starts our agent: then it phones home, and is looked at seldom until it does."""
    phoned_home_at: float | None = None
    returned_at: float | None = None
    """Of a lost one: when its agent was first heard again."""
    stopped_at: float | None = None
    """Of a lost one: when its agent, told that it is fenced, reported that the workload does not run. Of a spare: when
    its provider said that it is stopped."""
    standby: bool = False
    """Rented beside the one that serves: it is a spare (or will be one), or a rehearsal's."""
    taken_back: int = 0
    """How often it was lost and taken back."""
    last_status: str = ""
    """The provider's last word on a lost one (`InstanceStatus`, or "gone")."""
    woken_at: float | None = None
    """When it was last started again after a stop."""
    up_at: float | None = None
    """When the provider last said that it had come up."""
    engine_run: str = ""
    """The restore that runs on it before it may serve, and the storage key of that restore."""
    store_key_id: str = ""
    restores: int = 0
    restored_snapshot_id: str | None = None
    """The snapshot that its workspace holds; None: none. `KEPT_DISK` of one that was stopped and started again."""
    created_at: float | None = None
    seen_booting_at: float | None = None
    """When the provider last said that it does not run yet."""
    booted_at: float | None = None
    """When the provider first said that it runs: we saw it then, it happened since `seen_booting_at`."""
    proven_at: float | None = None
    releasing_at: float | None = None
    gone_at: float | None = None
    turns: tuple[Turn, ...] = ()
    """What bills it, and since when (see `domain.meter`); () until more befalls it than its first boot."""
    metered_at: float | None = None
    """When its last turn was last seen to hold."""
    ended_at: float | None = None
    """Of one that is gone: when its bill ended, as well as we know."""
    posted_until: float = 0.0
    """Up to this midnight (UTC) its days are in the ledger, and `traffic` of its network."""
    traffic: Traffic = Traffic()
    ssh: SshEndpoint | None = None
    host_key: str | None = None
    proof: Proof | None = None
    problem: Problem | None = None
    next_check_at: float = 0.0
    tries: int = 0
    """How often the current duty (locate, prove, release) was tried in vain; it spaces out the next try."""


# --- Operations ---------------------------------------------------------------------------------------------------


class OperationKind(enum.StrEnum):
    """The long actions on machines."""

    PROVISION = "provision"
    DESTROY = "destroy"
    FAILOVER = "failover"
    HIBERNATE = "hibernate"
    WAKE = "wake"
    REAP = "reap"
    SPARE = "spare"
    DRILL = "drill"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    VERIFY = "verify"
    DIFF = "diff"
    FINISH = "finish"


class OperationState(enum.StrEnum):
    """`superseded`: another operation took the machine over, and answers for its instances."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step done, for the timeline: what, on which instance, when, how it went."""

    name: str
    started_at: float
    ended_at: float
    ok: bool = True
    instance_id: str | None = None
    detail: str = ""


class Operation(Record, frozen=True, kw_only=True):
    """The durable record of one long action on a machine.

    `lease_owner` and `lease_until` guard it against two invocations at once; while it is open, `deadline` says when
    the sweep must wake it if no message does.
    """

    collection: ClassVar[str] = "operations"

    kind: OperationKind
    machine: str
    epoch: int
    state: OperationState = OperationState.RUNNING
    phase: str = "start"
    created_at: float
    updated_at: float
    requested_by: str = ""
    request_id: str = ""
    discard: bool = False
    """The user said that the workspace may be lost (invariant 4)."""
    snapshot_first: bool = False
    """Destroy: what the workspace holds is saved first, and only a complete snapshot lets it go on."""
    snapshot_id: str | None = None
    other_snapshot_id: str | None = None
    rehash: bool = False
    """Snapshot: every file is read, whatever its size and times say."""
    result: dict[str, list[str]] = {}  # noqa: RUF012 - msgspec copies it
    """Diff: paths that were added, removed, changed, touched."""
    path: str = ""
    """Restore: this path within the workspace alone."""
    fall_back: bool = False
    """Restore: if the snapshot is damaged, go on with the one before it."""
    engine_run: str = ""
    """The folder on the host where the engine's output of this attempt lies."""
    store_key_id: str = ""
    """The object store's key that was minted for this attempt; revoked at the end."""
    progress: dict[str, float] = {}  # noqa: RUF012 - msgspec copies it
    """How far the engine is: files, bytes, bytes_sent."""
    suspect_instance_id: str | None = None
    """Failover: the instance that is, or may be, lost."""
    suspected_at: float = 0.0
    tier: str = ""
    """Hibernate: "pause" keeps the stopped instance, "hibernate" keeps nothing but the snapshot."""
    forced: bool = False
    """Failover: a user wants it, whatever the evidence says."""
    found_empty: bool = False
    """Failover: wanted by a user, and its workspace held no file: nothing is lost with its old host."""
    evidence: tuple[Evidence, ...] = ()
    """Failover: what was seen of the suspect, the latest last."""
    unrestorable: bool = False
    """Failover: every snapshot is damaged; an empty workspace is not to be taken for the machine's."""
    serve_not_before: float = 0.0
    """Failover: until then the old host may still serve, since nobody has told it otherwise (invariant 1)."""
    tried: tuple[str, ...] = ()
    """Failover: the strategies that were tried, in their order; the last one is under way."""
    tried_since: float = 0.0
    candidates: tuple[Offer, ...] = ()
    rounds: int = 0
    """How many searches were made, or how often the engine was started."""
    tries: int = 0
    """How often the current step failed in a row; it spaces out the next try."""
    not_before: float = 0.0
    """The next try of the current step waits for this: a market said to slow down, or a shell did not answer."""
    steps: tuple[Step, ...] = ()
    problem: Problem | None = None
    lease_owner: str | None = None
    lease_until: float = 0.0
    nudged: bool = False
    """A message came while an invocation held the lease: that one must look again before it lets go."""
    deadline: float | None = None
    shard: int = 0
    ended_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether it still has something to do."""
        return self.state is OperationState.RUNNING


# --- Access, schedules -------------------------------------------------------------------------------------


class Role(enum.StrEnum):
    """What a key may do: viewers look, operators change machines, admins also manage keys."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def reaches(self, needed: Role) -> bool:
        """Whether this role includes the needed one."""
        order = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
        return order.index(self) >= order.index(needed)


class Schedule(Record, frozen=True, kw_only=True):
    """When a recurring duty ran last, and who holds it now."""

    collection: ClassVar[str] = "schedules"

    last_run_at: float = 0.0
    lease_owner: str | None = None
    lease_until: float = 0.0
