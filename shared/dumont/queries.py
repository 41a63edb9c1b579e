"""Every query that Dumont makes of its store. `infra/` declares an index for each; a test holds them together."""

from __future__ import annotations

from dumont.domain.records import SHARDS, MachineState, OperationKind
from dumont.ports import Query, Where

IN_MOST = 30
"""How many values an `in` may have: Firestore's limit."""
_LIMIT_OF_MANY = IN_MOST * 10_000


def due(now: float, *, limit: int = 500) -> Query:
    """Of operations or machines: those whose deadline has passed, longest overdue first.

    One query over all shards: an idle sweep costs one read, however many shards there are.
    """
    return Query(
        where=(Where("shard", "in", tuple(range(SHARDS))), Where("deadline", "<=", now)),
        order_by="deadline",
        limit=limit,
    )


def machines_in_state(state: MachineState) -> Query:
    """The machines in one state."""
    return Query(where=(Where("state", "==", str(state)),), limit=1000)


def open_operations_of_kind(kind: OperationKind) -> Query:
    """The operations of one kind that still have something to do."""
    return Query(where=(Where("kind", "==", str(kind)), Where("state", "==", "running")), limit=1000)


def instances_of_machine(machine: str) -> Query:
    """The open instances of a machine, of whatever epoch."""
    return Query(where=(Where("machine", "==", machine), Where("open", "==", True)))


def instances_of_operation(operation_id: str) -> Query:
    """Every instance that an operation answers for, open or gone."""
    return Query(where=(Where("operation_id", "==", operation_id),))


def instances_rented_by(operation_id: str) -> Query:
    """Every instance that an operation rented, whoever answers for it now."""
    return Query(where=(Where("rented_by", "==", operation_id),))


def instances_of_operations(operation_ids: tuple[str, ...]) -> Query:
    """Every instance that any of at most `IN_MOST` operations answers for."""
    return Query(where=(Where("operation_id", "in", operation_ids),), limit=_LIMIT_OF_MANY)


def instances_rented_by_any(operation_ids: tuple[str, ...]) -> Query:
    """Every instance that any of at most `IN_MOST` operations rented."""
    return Query(where=(Where("rented_by", "in", operation_ids),), limit=_LIMIT_OF_MANY)


def open_instances() -> Query:
    """All that the books hold as not gone."""
    return Query(where=(Where("open", "==", True),), limit=10_000)


def history_of_machine(machine: str, *, limit: int = 100) -> Query:
    """The operations on a machine, newest first."""
    return Query(where=(Where("machine", "==", machine),), order_by="created_at", descending=True, limit=limit)


def latest_operations(*, limit: int = 100) -> Query:
    """The operations on all machines, newest first."""
    return Query(order_by="created_at", descending=True, limit=limit)


def latest_jobs(*, limit: int = 100) -> Query:
    """The jobs, newest first."""
    return Query(order_by="created_at", descending=True, limit=limit)


def snapshots_of_machine(machine: str) -> Query:
    """Each snapshot of a machine, of whatever state and epoch, newest first."""
    return Query(where=(Where("machine", "==", machine),), order_by="created_at", descending=True, limit=1000)


def latest_snapshots(*, limit: int = 200) -> Query:
    """The snapshots of all machines, newest first."""
    return Query(order_by="created_at", descending=True, limit=limit)


def all_machines() -> Query:
    """The machines, by the time of their making."""
    return Query(order_by="created_at", limit=10_000)


def ledger_of_machine(machine: str) -> Query:
    """A machine's ledger, oldest first."""
    return Query(where=(Where("machine", "==", machine),), order_by="written_at", limit=10_000)


def instances_ever_of_machine(machine: str) -> Query:
    """Each instance that a machine ever had, gone ones too."""
    return Query(where=(Where("machine", "==", machine),), limit=10_000)


def instances_ever_of_machines(machines: tuple[str, ...]) -> Query:
    """Each instance that any of at most `IN_MOST` machines ever had, gone ones too."""
    return Query(where=(Where("machine", "in", machines),), limit=_LIMIT_OF_MANY)


def hosts_by_key(machine_keys: tuple[str, ...]) -> Query:
    """What we know of at most `IN_MOST` machines of hosts."""
    return Query(where=(Where("machine_key", "in", machine_keys),), limit=IN_MOST)


# --- Whether there is anything at all -----------------------------------------------------------------------------

_RESTING_STATES = (MachineState.DESTROYED, MachineState.FAILED, MachineState.HIBERNATED)
_NEVER = 1e15


def any_machine_open() -> Query:
    """One machine that may need a sweep by its state alone, if there is any."""
    open_states = tuple(str(state) for state in MachineState if state not in _RESTING_STATES)
    return Query(where=(Where("state", "in", open_states),), limit=1)


def any_operation_open(*, limit: int = 1) -> Query:
    """One operation that still has something to do, if there is any; or so many."""
    return Query(where=(Where("state", "==", "running"),), limit=limit)


def any_instance_open() -> Query:
    """One instance that the books hold as not gone, if there is any."""
    return Query(where=(Where("open", "==", True),), limit=1)


def any_deadline() -> Query:
    """One record with a deadline, however far, if there is any: the soonest. Of what `due` is asked of."""
    return due(_NEVER, limit=1)


# --- Money --------------------------------------------------------------------------------------------------------


def ledger_of_days(days: tuple[str, ...]) -> Query:
    """The ledger's entries of at most `IN_MOST` UTC days ("2026-11-22")."""
    return Query(where=(Where("day", "in", days),), limit=_LIMIT_OF_MANY)


def ledger_of_machine_in_days(machine: str, days: tuple[str, ...]) -> Query:
    """A machine's entries of at most `IN_MOST` UTC days."""
    return Query(where=(Where("machine", "==", machine), Where("day", "in", days)), limit=_LIMIT_OF_MANY)


def ledger_of_instances(instance_ids: tuple[str, ...]) -> Query:
    """The entries of at most `IN_MOST` instances."""
    return Query(where=(Where("instance_id", "in", instance_ids),), limit=_LIMIT_OF_MANY)


def instances_of_provider_ids(provider_instance_ids: tuple[str, ...]) -> Query:
    """The instances that bear any of at most `IN_MOST` ids at a provider, gone ones too."""
    return Query(where=(Where("provider_instance_id", "in", provider_instance_ids),), limit=_LIMIT_OF_MANY)


def all_budgets() -> Query:
    """Each budget."""
    return Query(limit=10_000)


def all_credits() -> Query:
    """What each provider last said of its credit."""
    return Query(limit=100)


def latest_audit(*, limit: int = 100) -> Query:
    """What anybody asked to be changed, newest first."""
    return Query(order_by="at", descending=True, limit=limit)


def audit_of(who: str, *, limit: int = 100) -> Query:
    """What one asked to be changed, newest first."""
    return Query(where=(Where("who", "==", who),), order_by="at", descending=True, limit=limit)


def all_keys() -> Query:
    """The API keys, by the time of their making; those that have ended too."""
    return Query(order_by="created_at", limit=10_000)


# --- Webhooks out -------------------------------------------------------------------------------------------------


def all_subscriptions() -> Query:
    """Each subscription."""
    return Query(limit=1000)


def deliveries_to(subscription: str, *, limit: int = 100) -> Query:
    """A subscription's deliveries, newest first."""
    where = (Where("subscription", "==", subscription),)
    return Query(where=where, order_by="created_at", descending=True, limit=limit)


def deliveries_in_state(subscription: str, state: str, *, limit: int = 100) -> Query:
    """A subscription's deliveries in one state, newest first."""
    where = (Where("subscription", "==", subscription), Where("state", "==", state))
    return Query(where=where, order_by="created_at", descending=True, limit=limit)
