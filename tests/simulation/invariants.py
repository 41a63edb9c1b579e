"""The design's invariants, looked at after each event of a history, and what must hold once all is quiet."""

from __future__ import annotations

import json

from dumont.domain import costs
from dumont.domain.budgets import ALL as ALL_MACHINES
from dumont.domain.budgets import Budget, BudgetAction
from dumont.domain.failover import CONFIRM
from dumont.domain.ledger import LedgerEntry
from dumont.domain.names import label_prefix
from dumont.domain.reaping import held_by
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
)
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.local.market.instance import Instance as MarketInstance
from dumont.operations.reconcile import reconcile
from dumont.ports import Query
from tests.simulation.broken import Broken as Broken
from tests.simulation.witness import Witness
from tests.simulation.world import DEPLOYMENT, World

ORPHAN_SECONDS_MAX = 600.0
SWEEP_SECONDS = 60.0
LOOK_SECONDS = 5.0
"""How often what time alone breaks is looked at: what is nobody's, and what is spent."""
SINCE_RECONCILED_SECONDS = 70.0
UNSEEN_USD = 0.003
"""A create's or a destroy's effect comes a moment before its answer: some seconds of the dearest GPU."""
ALL = Query(limit=100_000)


class Invariants:
    """Watches a world. `check` is cheap enough to run after each event."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._witness = Witness(world)
        self._unowned_since: dict[int, float] = {}
        self._seen_alive: dict[int, MarketInstance] = {}
        self._ours: list[MarketInstance] = []
        """Our instances on the market when it was last asked for something."""
        self._all_over_budget_since: float | None = None
        self._over_cap: dict[tuple[str, float], tuple[float, float]] = {}
        """Of each machine's life since when its own cap was passed, and for how many seconds it has billed since."""
        self._next_check = 0.0
        self._prefix = label_prefix(DEPLOYMENT)
        self._seen: dict[type, int] = {}
        """How often each kind of record had changed at the last look."""
        self._shown: list[tuple[int, str | None]] = []
        """What was alive then, and its labels."""
        self._books: dict[str, Instance] = {}
        self._began_at = world.hub.now - 86_400.0
        """Before anything bills."""

    def check(self) -> None:
        """Raise `Broken` if an invariant does not hold now."""
        world = self._world
        if world.defects:
            defect = world.defects[0]
            said = (
                str(defect) if isinstance(defect, AssertionError) else f"the code raised what it should not: {defect!r}"
            )
            raise Broken(said) from defect
        # Between two effects only time passes: what that breaks (ten minutes, a budget) shows a moment later as well.
        if not world.changed and world.hub.now < self._next_check:
            return
        world.changed = False
        now = world.hub.now
        looks_at_money = now >= self._next_check
        if world.market_changed or looks_at_money:  # else what lives does not change but by coming to its end
            world.market_changed = False
            self._ours = [i for i in world.market.live(now) if (i.label or "").startswith(self._prefix)]
        live = [i for i in self._ours if i.exists(now)]
        self._lost_workspaces(live)
        if not live and not self._unowned_since:
            self._all_over_budget_since = None  # nothing lives: whatever is rented next has its own time
            self._next_check = now + LOOK_SECONDS
            return
        self._look(live)
        if looks_at_money:
            self._next_check = now + LOOK_SECONDS
            self._owned(live, self._books)
            self._within_budget(live)
            self._within_budget_of_all(live)

    def _look(self, live: list[MarketInstance]) -> None:
        """Look at what has changed since the last time."""
        store, before = self._world.store.quiet, self._seen
        self._seen = {kind: store.changes(kind) for kind in (Instance, Operation, Machine)}
        shown = [(i.id, i.label) for i in live]
        news = {kind for kind, changes in self._seen.items() if changes != before.get(kind)}
        if shown == self._shown and not news:
            return
        if Instance in news:
            self._books = {i.id: i for i in store.find(Instance, ALL)}
        if Instance in news or shown != self._shown:
            self._witness.rented(live, self._books)
            self._gone_is_gone(live, self._books)
        self._shown = shown
        self._witness.look(news)

    def _owned(self, live: list[MarketInstance], books: dict[str, Instance]) -> None:
        """Invariant 2, as the market sees it."""
        world = self._world
        machines = {m.id: m for m in world.store.quiet.find(Machine, ALL)}
        for instance in live:
            if self._has_owner(instance, books, machines):
                self._unowned_since.pop(instance.id, None)
                continue
            since = self._unowned_since.setdefault(instance.id, world.hub.now)
            if world.hub.now - since > ORPHAN_SECONDS_MAX:
                raise Broken(f"invariant 2: {instance.label} ({instance.id}) was nobody's for ten minutes")
        for instance_id in set(self._unowned_since) - {i.id for i in live}:
            del self._unowned_since[instance_id]

    def _has_owner(self, instance: MarketInstance, books: dict[str, Instance], machines: dict[str, Machine]) -> bool:
        for record in (books.get(instance.label or ""), books.get(f"{instance.label}+{instance.id}")):
            if record is None or not record.open:
                continue
            if record.provider_instance_id not in (None, str(instance.id)):
                continue
            op = self._world.store.quiet.get(Operation, record.operation_id)
            machine = machines.get(record.machine)
            if (op is not None and op.open) or (machine is not None and record.id in held_by(machine)):
                return True
        return False

    def _gone_is_gone(self, live: list[MarketInstance], books: dict[str, Instance]) -> None:
        """Invariant 3."""
        alive = {str(i.id) for i in live}
        for record in books.values():
            if record.state is InstanceState.GONE and record.provider_instance_id in alive:
                raise Broken(f"invariant 3: {record.id} left the books and exists")

    def _lost_workspaces(self, live: list[MarketInstance]) -> None:
        """Invariant 4: what holds files is destroyed only if the user said so (a budget is such a word)."""
        world = self._world
        alive = {i.id: i for i in live}
        for gone_id in self._seen_alive.keys() - alive.keys():
            gone = self._seen_alive.pop(gone_id)
            had = {k: v.decode() for k, v in world.files.get(gone_id, {}).items() if k.startswith("user/")}
            label = gone.label or ""
            name = label.split(".")[2]
            if not self._may_be_lost(name, had, label) and not self._died(name, label):
                raise Broken(f"invariant 4: {gone.label} was destroyed with files on it, and nobody said --discard")
        while world.replaced:
            name, had = world.replaced.pop()
            if not self._may_be_lost(name, had, None):
                raise Broken(f"invariant 4: a restore of {name} replaced files that nobody had saved")
        self._seen_alive = alive

    def _may_be_lost(self, name: str, had: dict[str, str], host: str | None) -> bool:
        """Whether all that a workspace had is in one good snapshot of its machine, or its user let it go: with its
        `host`, or, without one, to what a restore put in its place."""
        store = self._world.store.quiet
        machine = store.get(Machine, name)
        said = [op for op in store.find(Operation, ALL) if op.discard and op.machine == name and _is_about(op, host)]
        if not had or any(machine is None or op.created_at >= machine.created_at for op in said):
            return True
        began_with = machine.filled_from if machine is not None else None
        taken = [s for s in store.find(Snapshot, ALL) if s.machine == name or s.id == began_with]
        good = [s for s in taken if s.completed_at is not None]
        return any(had.items() <= self._world.whole(s.id).items() for s in good)

    def _died(self, name: str, label: str) -> bool:
        """Whether it was found dead, and its machine moved: what is newer than a verified snapshot is lost with it, and
        nothing else; or all, where its user said that it has no state."""
        machine = self._world.store.quiet.get(Machine, name)
        stateless = machine is not None and machine.spec.stateless
        moved = any(
            op.kind is OperationKind.FAILOVER
            and op.suspect_instance_id == label
            and (not op.snapshot_first or stateless)
            for op in self._world.store.quiet.find(Operation, ALL)
            if op.machine == name and op.phase != CONFIRM
        )
        return moved and (self._has_snapshot(name) or stateless)

    def _has_snapshot(self, machine: str) -> bool:
        return any(s.machine == machine and s.restorable for s in self._world.store.quiet.find(Snapshot, ALL))

    def _within_budget(self, live: list[MarketInstance]) -> None:
        """Invariant 8, by the market's own bill: a budget may be passed for one sweep's worth, and for as long as
        something that enforcing needs was away."""
        capped = [m for m in self._world.store.quiet.find(Machine, ALL) if m.spec.budget_usd is not None]
        if not capped:
            return
        now, bill, alive = self._world.hub.now, self._billed(), {str(i.id) for i in live}
        for machine in capped:
            mine = [
                i.provider_instance_id
                for i in self._books.values()
                if i.machine == machine.id and i.intended_at >= machine.created_at and i.provider_instance_id
            ]
            spent, budget_usd = sum(bill.get(i, 0.0) for i in mine), machine.spec.budget_usd or 0.0
            if spent < budget_usd or alive.isdisjoint(mine):
                continue
            # All the time that it lived so, however often it was let go and rented again in between.
            life = (machine.id, machine.created_at)
            since, seconds = self._over_cap.get(life, (now, 0.0))
            self._over_cap[life] = (since, seconds + LOOK_SECONDS)
            if seconds > SWEEP_SECONDS + self._slack(since, now):
                raise Broken(f"invariant 8: {machine.id} spent ${spent:.4f} of ${budget_usd:.4f}")

    def _within_budget_of_all(self, live: list[MarketInstance]) -> None:
        """The same of the budget for all together, where it says that what spends is destroyed."""
        world, now = self._world, self._world.hub.now
        budget = world.store.quiet.get(Budget, ALL_MACHINES)
        if budget is None or budget.usd_total is None or budget.action is not BudgetAction.DESTROY:
            return
        waking = [m for m in world.store.quiet.find(Machine, ALL) if m.state is MachineState.WAKING]
        spent = sum(self._billed().values())
        if spent < budget.usd_total or not live or waking:
            self._all_over_budget_since = None
            return
        since = self._all_over_budget_since = self._all_over_budget_since or now
        if now - since > 2 * SWEEP_SECONDS + self._slack(since, now):
            raise Broken(f"invariant 8: all spent ${spent:.4f} of ${budget.usd_total:.4f}, and {live[0].label} lives")

    def _billed(self) -> dict[str, float]:
        """What each instance that ever was has cost, as the market has it: it was asked in this look."""
        return {str(i.id): i.gpu_usd + i.storage_usd for i in self._world.market.ever()}

    def _slack(self, since: float, now: float) -> float:
        """What the world itself took: outages, a dead sweeper's lease, an invocation's, and a market in bad weather."""
        weather = self._world.weather
        leases = 240.0 * bool(weather.dies or weather.commit_unknown)
        return 2 * self._world.outages.seconds(since, now) + leases + 120.0

    def _snapshots(self) -> None:
        """Invariants 4 and 5: what counts as a snapshot is in the object store, and is what was in the workspace."""
        world = self._world
        for taken in world.store.quiet.find(Snapshot, ALL):
            if taken.state is SnapshotState.TAKING:
                raise Broken(f"invariant 7: {taken.id} is being taken for ever")
            if not taken.restorable or taken.manifest is None:
                continue
            for pack in [taken.manifest, *taken.packs]:
                content = world.blobs.objects.get(pack.key)
                if content is None:
                    raise Broken(f"invariant 5: {taken.id} counts, and its {pack.key} is gone")
                if json.loads(content[0]) != world.saved[taken.id]:
                    raise Broken(f"invariant 5: {taken.id} is not what was in the workspace")
        blobs = world.blobs
        unexcused = [key for key in blobs.keys if not {key, blobs.holders[key]} & blobs.unrevoked]
        if unexcused:
            raise Broken(f"invariant 9: keys outlive their operations: {[(k, blobs.holders[k]) for k in unexcused]}")

    def reconcile(self) -> None:
        """What nobody saw is entered by the market's own bill."""
        hub, ports = self._world.hub, self._world.ports
        from_time, to_time = self._began_at, hub.now
        hub.spawn("reconcile", lambda: _entered(reconcile(ports, from_time=from_time, to_time=to_time, enter=True)))
        hub.run(hub.now + 60.0)

    def check_quiet(self, *, reconciled: bool = False) -> None:
        """Invariants 7 and 10, once nothing goes wrong any more and time enough has passed."""
        world = self._world
        if not reconciled:
            self.reconcile()
        store, now = world.store.quiet, world.hub.now
        starved = [
            op
            for op in store.find(Operation, ALL)
            if op.problem is not None and op.problem.code == "timed_out" and not op.rounds
        ]
        if starved:
            # Outages are short here: who never even searched in all that time was kept from it by us.
            raise Broken(f"liveness: {starved[0].id} used up all its time and did nothing: {starved[0]}")
        still_open = [op for op in store.find(Operation, ALL) if op.open]
        if still_open:
            raise Broken(f"invariant 7: {still_open[0].kind} {still_open[0].id} never ended: {still_open[0]}")
        machines = store.find(Machine, ALL)
        stable = (MachineState.RUNNING, MachineState.HIBERNATED, MachineState.FAILED, MachineState.DESTROYED)
        unstable = [m for m in machines if m.state not in stable or m.operation_id is not None]
        if unstable:
            raise Broken(f"invariant 7: {unstable[0].id} stays {unstable[0].state}, held by {unstable[0].operation_id}")
        current: set[str | None] = {i for m in machines for i in held_by(m)}
        self._asleep(machines)
        live = {i.label for i in world.market.live(now) if (i.label or "").startswith(label_prefix(DEPLOYMENT))}
        if live - current:
            raise Broken(f"invariants 2 and 10: {sorted(live - current, key=str)} bill and are nobody's")
        open_records = {i.id for i in store.find(Instance, ALL) if i.open}
        if open_records != current:
            raise Broken(f"invariant 7: the books hold {open_records}, the machines {current}")
        self._ledger(current)
        self._paid(current)
        self._snapshots()

    def _asleep(self, machines: list[Machine]) -> None:
        """Invariant 10: what sleeps has no GPU; what it kept is stopped; and it can be woken."""
        world = self._world
        running = {i.label for i in world.market.live(world.hub.now) if i.phase(world.hub.now).running}
        for machine in machines:
            if machine.state is not MachineState.HIBERNATED:
                continue
            if machine.paused_instance_id in running:
                raise Broken(f"invariant 10: {machine.id} sleeps, and {machine.paused_instance_id} runs")
            if not self._has_snapshot(machine.id):
                raise Broken(f"invariant 4: {machine.id} sleeps, and no snapshot of it is there")

    def _paid(self, current: set[str | None]) -> None:
        """Of all that is gone the ledger's sum is the market's own bill, to within a cent, what nobody saw included;
        and no bill is above what a budget was held against (but of one that was started and stopped between two
        looks)."""
        world = self._world
        store, now = world.store.quiet, world.hub.now
        booked: dict[str, float] = {}
        for entry in store.find(LedgerEntry, ALL):
            booked[entry.instance_id] = booked.get(entry.instance_id, 0.0) + entry.amount_micro_usd / 1e6
        books = {i.provider_instance_id: i for i in store.find(Instance, ALL)}
        apart_usd = 0.0
        for line in world.market.bill(now).instances:
            billed_usd = line.gpu_usd + line.storage_usd
            record = books.get(str(line.instance_id))
            label = record.id if record is not None else f"{line.label}+{line.instance_id}"
            # One that was never in our books is entered an hour after its end: until then its bill may grow.
            settles_seconds = SINCE_RECONCILED_SECONDS + (costs.SECONDS_PER_HOUR if record is None else 0.0)
            if label in current or (line.destroyed_at is not None and line.destroyed_at > now - settles_seconds):
                continue
            apart_usd += booked.get(label, 0.0) - billed_usd
            if abs(booked.get(label, 0.0) - billed_usd) > 0.001:
                raise Broken(f"the ledger has ${booked.get(label, 0.0):.6f} of {label}, the market ${billed_usd:.6f}")
            if (
                record is not None
                and not record.turns
                and billed_usd > costs.total_at_most_usd([record], now) + UNSEEN_USD
            ):
                raise Broken(f"invariant 8: {label} cost ${billed_usd:.6f}, more than it could have: {record}")
        if abs(apart_usd) > 0.01:
            raise Broken(f"the ledger is ${apart_usd:.4f} beside the market's bill")

    def _ledger(self, current: set[str | None]) -> None:
        """Each instance that is gone has its entries, once; each amount is what its time and rate make."""
        store, now = self._world.store.quiet, self._world.hub.now
        entries = store.find(LedgerEntry, ALL)
        for record in store.find(Instance, ALL):
            mine = [e for e in entries if e.instance_id == record.id]
            if record.id in current or record.created_at is None:
                continue
            metered = [e for e in mine if e.source == "metered"]
            booked_usd = sum(e.amount_micro_usd for e in metered) / 1e6
            if abs(booked_usd - costs.accrued(record, now).total_usd) > 1e-6 * (len(metered) + 1):
                raise Broken(f"the ledger has ${booked_usd:.6f} of {record.id}, its meter says otherwise: {record}")
            for entry in metered:
                amount = round(entry.usd_per_hour * (entry.to_time - entry.from_time) / 3600 * 1e6)
                if abs(amount - entry.amount_micro_usd) > 1:
                    raise Broken(f"the ledger's {entry.id} is {entry.amount_micro_usd}, not {amount}")


def _is_about(said: Operation, host: str | None) -> bool:
    """Whether an operation's --discard is about a host's workspace (None: about what a restore replaces): that of a
    move is about the host that it leaves, and no later one."""
    if host is None or said.kind is OperationKind.RESTORE:
        return host is None and said.kind is OperationKind.RESTORE
    if said.kind is OperationKind.FAILOVER:
        return said.suspect_instance_id == host
    return said.state is not OperationState.FAILED


def _entered(_: object) -> None:
    """A task answers nothing."""
