"""What the world knows and the code under test does not: held against what the code did, as it does it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dumont.domain import failover
from dumont.domain.records import KEPT_DISK, Instance, InstanceState, Machine, MachineState, Operation, OperationKind
from dumont.domain.tending import SETTLE_SECONDS
from dumont.local.market.instance import Instance as MarketInstance
from dumont.ports import Query
from tests.simulation.broken import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World

ALL = Query(limit=100_000)
FILLS = (OperationKind.FAILOVER, OperationKind.WAKE)
"""Operations that bring a machine back with the files of a snapshot."""
IN_USE_SECONDS = 90.0
"""Use for so long is in some heartbeat that is fresh, or the last heartbeat is too old to go by."""


class Witness:
    """Looks after each event at what has changed; each thing is judged once, when it is first seen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._labels: dict[str, int] = {}
        self._serving: dict[str, tuple[str, int]] = {}
        self._judged: set[str] = set()

    def look(self, news: Collection[type]) -> None:
        """Look at the kinds of record that have changed. Raise `Broken` if what was done should not have been."""
        store = self._world.store.quiet
        for op in store.find(Operation, ALL) if Operation in news else ():
            if op.id not in self._judged:
                self._operation(op)
        for machine in store.find(Machine, ALL) if Machine in news else ():
            self._begins_to_serve(machine)

    # --- Renting --------------------------------------------------------------------------------------------------

    def rented(self, live: list[MarketInstance], books: dict[str, Instance]) -> None:
        """Invariant 2, from its beginning: an intent is written before each create call, and the call is made once."""
        for instance in live:
            label = instance.label or ""
            if self._labels.get(label) == instance.id:
                continue
            if label in self._labels:
                raise Broken(f"invariant 2: {label} was rented twice: {self._labels[label]} and {instance.id}")
            record = books.get(label)
            if record is None:
                raise Broken(f"invariant 2: {label} was rented, and no intent of it was in the books")
            self._labels[label] = instance.id
        for instance in live:
            record = books.get(instance.label or "")
            if record is None or record.state is not InstanceState.GONE or record.provider_instance_id is not None:
                continue
            if (record.gone_at or 0.0) < record.intended_at + SETTLE_SECONDS:
                raise Broken(f"invariant 3: {record.id} was struck off before it had settled, and exists")

    # --- What operations did --------------------------------------------------------------------------------------

    def _operation(self, op: Operation) -> None:
        if op.kind is OperationKind.FAILOVER and failover.is_fenced(op):
            self._judged.add(op.id)
            if not op.forced and op.evidence:
                self._was_dead(op)
        elif op.kind is OperationKind.HIBERNATE:
            self._judged.add(op.id)
            if op.requested_by == "idleness":
                self._was_idle(op)
        elif not op.open:
            self._judged.add(op.id)

    def _was_dead(self, op: Operation) -> None:
        """Invariant 6: a host that answered all the time between its silence and its fence was not to be moved."""
        suspect = self._on_the_market(op.suspect_instance_id)
        if suspect is None:
            return
        since, now = op.suspected_at, self._world.hub.now
        moments = [since, now, *(p.at for p in suspect.timeline.all()), *suspect.kills, *suspect.network_changes()]
        moments += [moment + 0.001 for moment in moments]
        within = [moment for moment in moments if since <= moment <= now]
        if all(suspect.exists(moment) and suspect.ssh_works(moment) for moment in within):
            why = op.steps[-1].detail if op.steps else ""
            raise Broken(f"invariant 6: {op.machine} was moved, and its host lived and answered all the time ({why})")

    def _was_idle(self, op: Operation) -> None:
        """Invariant 6: what is in use, seen or not, is not put to sleep for being idle."""
        machine = self._world.store.quiet.get(Machine, op.machine)
        record = self._world.store.quiet.get(Instance, machine.instance_id or "") if machine is not None else None
        if record is None or record.provider_instance_id is None or self._world.uses is None:
            return
        use = self._world.uses.get(int(record.provider_instance_id))
        if use is not None and use.busy_all_through(op.created_at - IN_USE_SECONDS, op.created_at):
            raise Broken(f"invariant 6: {op.machine} was put to sleep as idle, in the middle of its use")

    # --- What serves ----------------------------------------------------------------------------------------------

    def _begins_to_serve(self, machine: Machine) -> None:
        """Invariants 1 and 5, when an instance begins to serve: its epoch is new to it, and it has the files that its
        snapshot has."""
        if machine.instance_id is None or machine.state is not MachineState.RUNNING:
            return
        now_serves = (machine.instance_id, machine.epoch)
        before = self._serving.get(machine.id)
        if before == now_serves:
            return
        self._serving[machine.id] = now_serves
        if before is not None and before[0] != machine.instance_id and before[1] >= machine.epoch:
            raise Broken(f"invariant 1: {machine.id} serves on {machine.instance_id} in the epoch of {before[0]}")
        self._is_not_stopped_by_us(machine)
        self._has_its_files(machine)

    def _is_not_stopped_by_us(self, machine: Machine) -> None:
        """Whoever is frozen may stop what another has just started; else what serves was not told to stop."""
        record = self._world.store.quiet.get(Instance, machine.instance_id or "")
        ordered = self._world.orders.get(int(record.provider_instance_id or 0)) if record is not None else None
        if ordered == "stopped" and not self._world.freezes:
            raise Broken(f"invariant 1: {machine.id} serves on {machine.instance_id}, which we have told to stop")

    def _has_its_files(self, machine: Machine) -> None:
        store = self._world.store.quiet
        record = store.get(Instance, machine.instance_id or "")
        found = [
            op
            for op in store.find(Operation, ALL)
            if op.machine == machine.id and op.kind in FILLS and op.epoch == machine.epoch and failover.is_fenced(op)
        ]
        op = max(found, key=lambda o: o.created_at, default=None)
        if op is None or record is None or record.restored_snapshot_id == KEPT_DISK or op.snapshot_id is None:
            return
        if record.id == op.suspect_instance_id:
            return  # taken back, with all that it had
        files = self._world.files.get(int(record.provider_instance_id or 0), {})
        has = {name: data.decode() for name, data in files.items() if name.startswith("user/")}
        if has != self._world.saved.get(op.snapshot_id):
            raise Broken(
                f"invariant 5: {machine.id} serves again on {record.id}, without the files of {op.snapshot_id}"
            )

    def _on_the_market(self, instance_id: str | None) -> MarketInstance | None:
        record = self._world.store.quiet.get(Instance, instance_id or "")
        if record is None or record.provider_instance_id is None:
            return None
        return next((i for i in self._world.market.ever() if str(i.id) == record.provider_instance_id), None)
