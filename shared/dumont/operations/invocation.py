"""One invocation's grip on an operation: the lease that it claims, and the writes that the lease guards.

Three beats (design: claim, work, apply): the claim is a transaction; effects happen outside any; what they showed is
applied in a transaction that first looks whether the lease is still ours. An invocation may die between any two lines
and another one goes on from the records alone (invariant 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from dumont.domain import happenings
from dumont.domain.alerts import Alert, of_operation
from dumont.domain.errors import DumontError
from dumont.domain.host_events import events_between
from dumont.domain.records import Instance, InstanceState, Machine, Operation, Step
from dumont.domain.subscriptions import Delivery
from dumont.operations import alerts, ledger, subscribers
from dumont.operations.reputations import note
from dumont.ports import CALL_SECONDS_MAX, Ports, Transaction

LEASE_SECONDS = 60.0
"""Longer than any port call (`CALL_SECONDS_MAX`): while a call is in flight, nobody else holds the operation."""

Fact = Callable[[Instance], Instance]
"""What an effect showed of an instance, as a change of its record **as it is now**: it must be true of any state."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What was written down to be told, and is to be hinted at once that is committed."""

    alerts: tuple[Alert, ...] = ()
    deliveries: tuple[Delivery, ...] = ()

    def publish(self, ports: Ports) -> None:
        """Hint at it; what is lost, the sweep finds."""
        alerts.publish(ports, self.alerts)
        subscribers.publish(ports, self.deliveries)


class LeaseLostError(DumontError):
    """Another invocation goes on with this operation, or it has ended: stop, and touch nothing more of it."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Made by `claim`; `owner` is this invocation's own id."""

    ports: Ports
    operation_id: str
    owner: str
    lease_seconds: float = LEASE_SECONDS

    def now(self) -> float:
        """The time."""
        return self.ports.clock.now()

    def claim(self) -> Operation | None:
        """Take the lease and answer with the operation; None where it is unknown, ended, or another one's now."""

        def work(tx: Transaction) -> Operation | None:
            op = tx.get(Operation, self.operation_id)
            now = self.now()
            if op is None or not op.open:
                return None
            if op.lease_owner not in (None, self.owner) and op.lease_until > now:
                # What the message was about may have come after the holder last looked: it shall look again.
                if not op.nudged:
                    tx.put(replace(op, nudged=True))
                return None
            claimed = self._held(replace(op, nudged=False), now)
            tx.put(claimed)
            return claimed

        return self.ports.store.transact(work)

    def keep(self, op: Operation) -> None:
        """Renew the lease if a call begun now could outlast it. Raises `LeaseLostError`."""
        if op.lease_until - self.now() <= min(CALL_SECONDS_MAX, self.lease_seconds / 2):
            self.apply(lambda _tx, op, _machine: op)

    def apply(self, change: Callable[[Transaction, Operation, Machine | None], Operation]) -> Operation:
        """Change the operation, and what else `change` writes, if the lease is ours. Raises `LeaseLostError`."""

        def work(tx: Transaction) -> tuple[Operation, News]:
            op = self._mine(tx)
            machine = tx.get(Machine, op.machine)
            changed = self._held(change(tx, op, machine), self.now())
            tx.put(changed)
            return changed, self._to_tell(tx, op, changed)

        changed, to_tell = self.ports.store.transact(work)
        to_tell.publish(self.ports)
        return changed

    def record(
        self,
        facts: Mapping[str, Fact],
        change: Callable[[Operation], Operation] = lambda op: op,
    ) -> None:
        """Write what effects showed of instances, with the timeline's steps that follow from it.

        Facts are true whoever holds the lease: an instance's id learned by an invocation that lost its lease is kept
        all the same (else it would bill unseen until the reaper comes), and only then `LeaseLostError` is raised.
        """

        def work(tx: Transaction) -> tuple[bool, News]:
            now = self.now()
            op = tx.get(Operation, self.operation_id)
            mine = op is not None and op.open and op.lease_owner == self.owner
            steps: list[Step] = []
            for instance_id, fact in facts.items():
                before = tx.get(Instance, instance_id)
                if before is None:
                    continue
                after = fact(before)
                if after == before:
                    continue
                after = ledger.put(tx, before, after, now)
                note(tx, after.offer, events_between(before, after, now), now)
                if op is not None:
                    steps += steps_between(before, after, op, now)
            if not mine or op is None:
                return False, News()
            changed = self._held(change(replace(op, steps=op.steps + tuple(steps))), now)
            tx.put(changed)
            return True, self._to_tell(tx, op, changed)

        mine, to_tell = self.ports.store.transact(work)
        to_tell.publish(self.ports)
        if not mine:
            raise LeaseLostError(self.operation_id)

    def let_go(self, until: float, *, unless_nudged: bool = False) -> bool:
        """Give the lease back and wait until then; the sweep wakes the operation if no message does.

        With `unless_nudged`: keep it and answer False if a message came meanwhile. Raises `LeaseLostError`.
        """

        def work(tx: Transaction) -> bool:
            op = self._mine(tx)
            if op.nudged and unless_nudged:
                tx.put(self._held(replace(op, nudged=False), self.now()))
                return False
            tx.put(replace(op, lease_owner=None, lease_until=0.0, deadline=until, nudged=False))
            return True

        return self.ports.store.transact(work)

    def _to_tell(self, tx: Transaction, before: Operation, after: Operation) -> News:
        """What people and programs are to be told of a change, written down with it: whoever tells people reads the
        records then."""
        to_tell = of_operation(before, after, self.now()) if self.ports.alerts else []
        for alert in to_tell:
            tx.get(Alert, alert.id)  # one that moves is written over: what a later version keeps in it stays
            tx.put(alert)
        happened = happenings.of_operation(before, after, self.now()) if self.ports.subscriptions else []
        return News(alerts=tuple(to_tell), deliveries=tuple(subscribers.write(self.ports, tx, happened)))

    def _mine(self, tx: Transaction) -> Operation:
        op = tx.get(Operation, self.operation_id)
        if op is None or not op.open or op.lease_owner != self.owner:
            raise LeaseLostError(self.operation_id)
        return op

    def _held(self, op: Operation, now: float) -> Operation:
        """The operation with our lease renewed, or without one if it has just ended."""
        if not op.open:
            return replace(op, lease_owner=None, lease_until=0.0, deadline=None, updated_at=now, ended_at=now)
        until = now + self.lease_seconds
        return replace(op, lease_owner=self.owner, lease_until=until, deadline=until, updated_at=now)


def steps_between(before: Instance, after: Instance, op: Operation, now: float) -> list[Step]:
    """The steps of the timeline that a change of an instance ends: its boot, its release."""
    if before.state is after.state:
        return []
    steps: list[Step] = []
    detail = after.problem.detail if after.problem is not None else ""
    if before.state is InstanceState.CREATED and before.created_at is not None:
        ok = after.state is InstanceState.BOOTED
        said = detail if not ok else f"{after.offer.gpu} in {after.offer.region or 'a region not named'}"
        steps.append(
            Step(
                name="boot",
                started_at=before.woken_at or before.created_at,
                ended_at=now,
                ok=ok,
                instance_id=after.id,
                detail=said,
            )
        )
    if after.state is InstanceState.GONE and before.provider_instance_id is not None:
        name = "destroy" if op.kind.value == "destroy" else "release"
        steps.append(
            Step(name=name, started_at=before.releasing_at or now, ended_at=now, instance_id=after.id, detail=detail)
        )
    return steps
