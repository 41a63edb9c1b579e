"""Reading: offers, machines and operations, with what they cost. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import costs, gpus
from dumont.domain.errors import InvalidInput, NotFound, ProviderError, Unknown
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.names import check_machine_name
from dumont.domain.offers import OfferQuery, RankedOffer, rank
from dumont.domain.records import Instance, Machine, MachineState, Operation
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.ports import Ports

_NO_TIME_IS_LATER = 1e15
_LEAD_NOWHERE = (MachineState.DESTROYING, MachineState.DESTROYED, MachineState.FAILED)


class MarketUnavailableError(ProviderError):
    """No market answered a search."""


class Offers(msgspec.Struct, frozen=True, kw_only=True):
    """The best offers, and how many pass the query in all."""

    offers: list[RankedOffer]
    count: int
    query: OfferQuery
    unanswered: tuple[str, ...] = ()
    """The markets that did not answer: an empty list of offers with one of them here proves nothing."""


class MachineSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A machine with the instances of its present life, and what they have cost by now."""

    machine: Machine
    instances: list[Instance]
    cost: costs.Cost
    now: float
    heartbeat: Heartbeat | None = None
    """The last word of the instance that backs it now; None: its agent was never heard."""

    @property
    def current(self) -> Instance | None:
        """The instance that backs it now."""
        return next((i for i in self.instances if i.id == self.machine.instance_id), None)

    @property
    def spare(self) -> Instance | None:
        """Its spare, if it has one now."""
        return next((i for i in self.instances if i.id == self.machine.spare_instance_id and i.open), None)


class OperationSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An operation with the instances that it rented or released, and what they have cost by now."""

    operation: Operation
    instances: list[Instance]
    now: float


def search(ports: Ports, query: OfferQuery) -> Offers:
    """Offers of all markets, cheapest to finish first. Raises `InvalidInput` for a GPU that nobody knows, and
    `MarketUnavailableError` if no market answered.
    """
    if query.gpu is not None and not gpus.is_known(query.gpu):
        near = gpus.suggestions(query.gpu)
        raise InvalidInput(
            f"no GPU is known by the name {query.gpu[:60]!r}",
            field="gpu",
            hint=f"did you mean {' or '.join(near)}?" if near else "leave the GPU out to see what is offered",
        )
    query = replace(query, gpu=gpus.canonical(query.gpu) if query.gpu is not None else None)
    offers = []
    unanswered: dict[str, ProviderError] = {}
    for name, provider in ports.providers.items():
        try:
            offers += provider.search(query)
        except ProviderError as error:
            unanswered[name] = error
    if unanswered and len(unanswered) == len(ports.providers):
        said = "; ".join(f"{name}: {error}" for name, error in unanswered.items())
        raise MarketUnavailableError(said)
    ranked = rank(offers, query)
    return Offers(offers=ranked[: query.limit], count=len(ranked), query=query, unanswered=tuple(unanswered))


def machines(ports: Ports, *, destroyed_too: bool = False) -> list[MachineSeen]:
    """The machines, oldest first; those destroyed only if asked for."""
    found = ports.store.find(Machine, queries.all_machines())
    shown = [m for m in found if destroyed_too or m.state is not MachineState.DESTROYED]
    ever: dict[str, list[Instance]] = {m.id: [] for m in shown}
    for names in _batches(list(ever)):
        for instance in ports.store.find(Instance, queries.instances_ever_of_machines(names)):
            ever[instance.machine].append(instance)
    heard = _heard_of_serving(ports) if any(m.instance_id for m in shown) else {}
    return [_seen(m, ever[m.id], heard.get(m.instance_id or ""), ports.clock.now()) for m in shown]


def _heard_of_serving(ports: Ports) -> dict[str, Heartbeat]:
    """The heartbeats of the instances that serve, by their ids. Only those have a deadline, so that one query on its
    index finds them all."""
    return {beat.id: beat for beat in ports.store.find(Heartbeat, queries.due(_NO_TIME_IS_LATER, limit=10_000))}


def _batches(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Ids for one query each: a query for every single one would take a list as many round trips as it has rows."""
    for start in range(0, len(ids), queries.IN_MOST):
        yield tuple(ids[start : start + queries.IN_MOST])


def machine(ports: Ports, name: str) -> MachineSeen:
    """One machine, destroyed or not. Raises `Unknown`."""
    check_machine_name(name)
    found = ports.store.get(Machine, name)
    if found is None:
        raise _no_machine(name)
    beat = ports.store.get(Heartbeat, found.instance_id) if found.instance_id is not None else None
    ever = ports.store.find(Instance, queries.instances_ever_of_machine(found.id))
    return _seen(found, ever, beat, ports.clock.now())


def _seen(found: Machine, ever: Sequence[Instance], beat: Heartbeat | None, now: float) -> MachineSeen:
    # A negative sequence only holds a new instance's deadline: nothing was heard yet.
    heard = beat if beat is not None and beat.sequence >= 0 else None
    of_this_life = sorted((i for i in ever if i.intended_at >= found.created_at), key=lambda i: (i.intended_at, i.id))
    return MachineSeen(
        machine=found, instances=of_this_life, cost=costs.total(of_this_life, now), now=now, heartbeat=heard
    )


def routes(ports: Ports) -> list[Machine]:
    """The machines whose names lead somewhere, or will again by themselves, oldest first. A machine's route is part of
    it: it changes in the transaction that makes its epoch serve."""
    return [m for m in ports.store.find(Machine, queries.all_machines()) if m.state not in _LEAD_NOWHERE]


def route(ports: Ports, name: str) -> Machine:
    """The machine that a name leads to, wherever that is now. Raises `Unknown`."""
    found = ports.store.get(Machine, check_machine_name(name))
    if found is None:
        raise _no_machine(name)
    return found


def _no_machine(name: str) -> Unknown:
    return Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")


def logs(ports: Ports, name: str, *, tail: int) -> list[str]:
    """The last lines of the log of a machine's current instance. Raises `Unknown`, or the provider's error."""
    seen = machine(ports, name)
    current = seen.current
    if current is None or current.provider_instance_id is None:
        raise Unknown(
            f"{name} is {seen.machine.state.value} and has no instance, hence no log",
            field="name",
            hint=f"`dumont operations {name}` shows what was done",
        )
    try:
        text = ports.providers[current.provider].logs(current.provider_instance_id, tail=tail)
    except NotFound as error:
        raise Unknown(f"the provider has no instance of {name} any more", field="name") from error
    return text.splitlines()


def operations(ports: Ports, *, machine_name: str | None, limit: int) -> list[OperationSeen]:
    """The operations, newest first, of one machine or of all."""
    if machine_name is not None:
        check_machine_name(machine_name)
        query = queries.history_of_machine(machine_name, limit=limit)
    else:
        query = queries.latest_operations(limit=limit)
    found = ports.store.find(Operation, query)
    of: dict[str, list[Instance]] = {op.id: [] for op in found}
    for ids in _batches(list(of)):
        for instance in ports.store.find(Instance, queries.instances_rented_by_any(ids)):
            of[instance.rented_by].append(instance)
        for instance in ports.store.find(Instance, queries.instances_of_operations(ids)):
            of[instance.operation_id].append(instance)
    return [_operation_seen(op, of[op.id], ports.clock.now()) for op in found]


def operation(ports: Ports, operation_id: str) -> OperationSeen:
    """One operation. Raises `Unknown`."""
    found = ports.store.get(Operation, operation_id)
    if found is None:
        raise Unknown(f"there is no operation {operation_id[:64]}", hint="`dumont operations` shows those there are")
    rented = ports.store.find(Instance, queries.instances_rented_by(found.id))
    answers_for = ports.store.find(Instance, queries.instances_of_operation(found.id))
    return _operation_seen(found, rented + answers_for, ports.clock.now())


def _operation_seen(op: Operation, instances: Sequence[Instance], now: float) -> OperationSeen:
    by_id = {i.id: i for i in instances}
    ordered = sorted(by_id.values(), key=lambda i: (i.intended_at, i.id))
    return OperationSeen(operation=op, instances=ordered, now=now)


def snapshots(ports: Ports, *, machine_name: str | None) -> list[Snapshot]:
    """The snapshots, newest first, of one machine or of all; not those that are deleted."""
    query = queries.latest_snapshots()
    if machine_name is not None:
        query = queries.snapshots_of_machine(check_machine_name(machine_name))
    return [s for s in ports.store.find(Snapshot, query) if s.state is not SnapshotState.DELETED]


def snapshot(ports: Ports, snapshot_id: str) -> Snapshot:
    """One snapshot. Raises `Unknown`."""
    found = ports.store.get(Snapshot, snapshot_id)
    if found is None:
        raise Unknown(f"there is no snapshot {snapshot_id[:64]}", hint="`dumont snapshots` shows those there are")
    return found
