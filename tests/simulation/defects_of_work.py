"""Defects of operations, messages and snapshots: see `defects`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from dumont.domain import destruction, provisioning, tending, unsaved
from dumont.domain import snapshots as snapshot_rules
from dumont.domain.records import Instance, InstanceState, Operation
from dumont.domain.snapshots import Snapshot
from dumont.operations import (
    destroy,
    engine_jobs,
    engine_runs,
    hibernate,
    restoring,
    runner,
    sweep,
    verification,
)
from dumont.operations.invocation import Invocation, LeaseLostError
from dumont.operations.workflows import WORKFLOWS
from tests.simulation.patches import Made, Patch, answering, wrapped

# --- Messages and leases ------------------------------------------------------------------------------------------


def no_lease_on_claims() -> Made:
    """Two workers go on with one operation at once: a claim does not look whether another holds it, and what a worker
    writes is not held against its lease."""

    def claim(self: Invocation) -> Operation | None:
        def work(tx: Any) -> Operation | None:
            op = tx.get(Operation, self.operation_id)
            if op is None or not op.open:
                return None
            claimed = self._held(replace(op, nudged=False), self.now())
            tx.put(claimed)
            return claimed

        return self.ports.store.transact(work)

    def mine(self: Invocation, tx: Any) -> Operation:
        op = tx.get(Operation, self.operation_id)
        if op is None or not op.open:
            raise LeaseLostError(self.operation_id)
        return op  # type: ignore[no-any-return]

    return ["7", "2", "ledger"], [Patch(Invocation, "claim", claim), Patch(Invocation, "_mine", mine)]


def unknown_commit_of_a_claim_kept() -> Made:
    """A worker that does not hear whether it has claimed goes away, and leaves its lease behind."""
    return ["8", "7", "liveness"], [answering(runner, "_try_to_let_go", None)]


def lost_messages_stay_lost() -> Made:
    """The sweep does not send again what was to happen: each message is taken to arrive."""
    return ["7", "2"], [answering(sweep, "_wake", False)]


def gone_said_twice() -> Made:
    """That an instance is gone is taken for news each time that it is said: messages come once, it is thought."""

    def gone(instance: Instance, now: float) -> Instance:
        from dumont.domain import meter

        ended = meter.ended(instance, now)
        return replace(ended, state=InstanceState.GONE, open=False, gone_at=now, outcome_unknown=False)

    return ["ledger"], [Patch(tending, "gone", gone)]


def ended_by_a_worker_that_lost_its_lease() -> Made:
    """A worker that was held up for longer than its lease writes all the same, over what another has done since."""

    def mine(self: Invocation, tx: Any) -> Operation:
        op = tx.get(Operation, self.operation_id)
        if op is None or not op.open:
            raise LeaseLostError(self.operation_id)
        return op  # type: ignore[no-any-return]

    return ["7", "2", "9", "ledger"], [Patch(Invocation, "_mine", mine)]


def instances_forgotten_at_the_end() -> Made:
    """An operation ends before each of its instances is gone: the losers of its race bill on."""

    def clear(instances: Any, now: float) -> Any:
        from dumont.domain.actions import Finish

        left = [i for i in instances if i.state is InstanceState.RELEASING and i.tries == 0]
        return real(left, now) if left else Finish()

    real = tending.clear
    return ["2", "3", "7"], [Patch(provisioning, "clear", clear), Patch(destruction, "clear", clear)]


# --- Snapshots ----------------------------------------------------------------------------------------------------


def counted_without_listing() -> Made:
    """A snapshot counts because its host says so: nobody looks whether the object store has it."""
    return ["4", "5"], [answering(verification, "absent", [])]


def destroyed_before_verified() -> Made:
    """Once the copy has ended its machine is destroyed, moved or put to sleep; the snapshot is verified by nobody."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def copied(invocation: Invocation, result: Any, began: float) -> None:
            real(invocation, result, began)
            invocation.apply(
                lambda _tx, o, _machine: (
                    replace(o, phase=destruction.CHECKED) if o.kind in snapshot_rules.SAVES_FIRST else o
                )
            )

        return copied

    return ["4"], [wrapped(engine_runs, "_copied", around)]


def slept_before_verified() -> Made:
    """A machine is put to sleep, and its host let go, once the copy has ended: neither look at the snapshot is made."""
    made = destroyed_before_verified()[1]
    good = property(lambda _snapshot: True)

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def fall_asleep(*args: Any, **kwargs: Any) -> None:
            from unittest.mock import patch

            with patch.object(Snapshot, "good", good):
                real(*args, **kwargs)

        return fall_asleep

    return ["4"], [*made, wrapped(hibernate, "_fall_asleep", around)]


def compared_with_nothing() -> Made:
    """Before a destroy and a restore nobody compares the workspace with what is saved."""
    return ["4"], [answering(unsaved, "refusal", None)]


def fallen_back_on_the_empty() -> Made:
    """A racer that has proved itself serves, whether or not its workspace was restored."""
    ready = Patch(provisioning, "is_ready", lambda _op, instance: instance.state is InstanceState.PROVEN)
    return ["5"], [ready]


def needed_packs_collected() -> Made:
    """What the newest snapshot alone needs is taken for garbage."""

    def garbage(objects: Any, snapshots: Any, now: float, *, grace_seconds: float) -> list[str]:
        del now, grace_seconds
        known = sorted((s for s in snapshots if s.restorable), key=lambda s: s.created_at)
        needed = {pack.key for s in known[:-1] for pack in s.packs}
        return sorted(set(objects) - needed)

    return ["5", "4"], [Patch(snapshot_rules, "garbage", garbage)]


# --- Rest ---------------------------------------------------------------------------------------------------------


def sweeps_not_resumed() -> Made:
    """A wish that comes while the sweeps rest leaves their schedule paused, and so does who works on it."""
    return ["7", "8"], [answering(runner, "wake_if_possible", False), answering(runner, "_resume", True)]


# --- Keys ---------------------------------------------------------------------------------------------------------


def keys_not_revoked() -> Made:
    """An operation that ends leaves the keys alive that it gave to hosts."""
    none = [answering(module, "end_keys", None) for module in (engine_runs, restoring)]
    from dumont.operations import provision, spares

    return ["9"], [*none, answering(provision, "end_keys", None), answering(spares, "end_keys", None)]


def key_for_everything() -> Made:
    """A host's key reads what all machines have saved."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        del real
        return lambda ports, op, _machine: ports.make_blobs().mint_key("machines/", "read", 3600, holder=op.id)

    return ["9"], [wrapped(engine_runs, "mint", around), wrapped(engine_jobs, "mint", around)]


def discard_assumed() -> Made:
    """A destroy does not look at what would be lost, although nobody has said --discard."""

    def decide(op: Operation, machine: Any, instances: Any, now: float) -> Any:
        from dumont.domain.actions import BeginDestroy

        action = real(op, machine, instances, now)
        return BeginDestroy() if type(action).__name__ == "InspectWorkspace" else action

    real = destruction.decide
    return ["4"], [Patch(destroy, "WORKFLOW", replace_decide(destroy.WORKFLOW, decide)), *_workflows(decide)]


def replace_decide(workflow: Any, decide: Callable[..., Any]) -> Any:
    """A workflow with another decision."""
    import dataclasses

    return dataclasses.replace(workflow, decide=decide)


def _workflows(decide: Callable[..., Any]) -> list[Patch]:
    from dumont.domain.records import OperationKind
    from tests.simulation import world

    changed = {**WORKFLOWS, OperationKind.DESTROY: replace_decide(destroy.WORKFLOW, decide)}
    return [Patch(world, "WORKFLOWS", changed)]


DEFECTS: tuple[Callable[[], Made], ...] = (
    no_lease_on_claims, unknown_commit_of_a_claim_kept, lost_messages_stay_lost, gone_said_twice,
    ended_by_a_worker_that_lost_its_lease, instances_forgotten_at_the_end, counted_without_listing,
    destroyed_before_verified, slept_before_verified, compared_with_nothing, fallen_back_on_the_empty,
    needed_packs_collected, sweeps_not_resumed, keys_not_revoked, key_for_everything, discard_assumed,
)  # fmt: skip
"""In the order of the table."""
