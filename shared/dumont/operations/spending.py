"""Reading what was spent and saved: the ledger, with what has accrued and is not entered yet. Nothing is changed."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from dumont import queries
from dumont.domain import accounts, savings
from dumont.domain.accounts import By, Total
from dumont.domain.errors import InvalidInput, Unknown
from dumont.domain.ledger import DAY_SECONDS, LedgerEntry
from dumont.domain.names import check_machine_name
from dumont.domain.records import Instance, Machine
from dumont.domain.savings import Savings
from dumont.ports import Ports

DAYS_USUAL = 30.0
DAYS_MOST = 400.0


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent within a time, in all and by what was asked; `accruing_usd` of it is not in the ledger yet."""

    from_time: float
    to_time: float
    zone: str
    by: By
    total: Total
    totals: list[Total]
    entries: int
    known_until: float
    """Up to when the least known of what is open was looked at; after that, it is assumed to have gone on so."""


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name ("Europe/Berlin"). Raises `InvalidInput`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = 'a name such as "UTC" or "Europe/Berlin"'
        raise InvalidInput(f"no time zone is known by the name {name[:60]!r}", field="zone", hint=hint) from error


def window(ports: Ports, from_time: float | None, to_time: float | None) -> tuple[float, float]:
    """From when to when: the last thirty days where nothing is said. Raises `InvalidInput`."""
    now = ports.clock.now()
    end = min(to_time if to_time is not None else now, now)
    start = from_time if from_time is not None else end - DAYS_USUAL * DAY_SECONDS
    if not start < end or end - start > DAYS_MOST * DAY_SECONDS:
        raise InvalidInput(f"a stretch of time of at most {DAYS_MOST:.0f} days is needed", field="from")
    return start, end


def costs(
    ports: Ports, *, machine: str | None, from_time: float | None, to_time: float | None, by: By, zone: str
) -> Spending:
    """What was spent, on one machine or all. Without times: the last thirty days. Raises `InvalidInput`, `Unknown`."""
    start, end = window(ports, from_time, to_time)
    now = ports.clock.now()
    known_zone = zone_of(zone)
    entries, still_open = _entries(ports, machine, start, end, now)
    return Spending(
        from_time=start,
        to_time=end,
        zone=zone,
        by=by,
        total=accounts.total(entries, from_time=start, to_time=end),
        totals=accounts.totals(entries, by, from_time=start, to_time=end, zone=known_zone),
        entries=len(entries),
        known_until=accounts.reached_until(still_open) or end,
    )


def saved(ports: Ports, *, machine: str | None, from_time: float | None, to_time: float | None) -> Savings:
    """What was saved, on one machine or all. Raises `InvalidInput`, `Unknown`."""
    start, end = window(ports, from_time, to_time)
    now = ports.clock.now()
    entries, _ = _entries(ports, machine, start, end, now)
    clouds, uncompared = savings.against_clouds(entries)
    of: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.machine:
            of.setdefault(entry.machine, []).append(entry)
    sleep = []
    for name, mine in sorted(of.items()):
        record = ports.store.get(Machine, name)
        ended_at = record.ended_at if record is not None and record.ended_at is not None else end
        saving = savings.against_never_sleeping(name, mine, min(ended_at, end))
        if saving is not None:
            sleep.append(saving)
    return Savings(clouds=clouds, sleep=sleep, uncompared=uncompared)


def _entries(
    ports: Ports, machine: str | None, start: float, end: float, now: float
) -> tuple[list[LedgerEntry], list[Instance]]:
    """The ledger's entries of a time, with what has accrued beyond them; and the open instances."""
    if machine is not None and ports.store.get(Machine, check_machine_name(machine)) is None:
        hint = "`dumont ls --all` shows those there are"
        raise Unknown(f"there is no machine named {machine}", field="machine", hint=hint)
    # The instances first: what is entered meanwhile is then found twice rather than not at all, and counted once.
    open_query = queries.open_instances() if machine is None else queries.instances_of_machine(machine)
    still_open = ports.store.find(Instance, open_query)
    found: dict[str, LedgerEntry] = {}
    days = accounts.days_between(start, end)
    for begin in range(0, len(days), queries.IN_MOST):
        batch = tuple(days[begin : begin + queries.IN_MOST])
        query = queries.ledger_of_days(batch) if machine is None else queries.ledger_of_machine_in_days(machine, batch)
        found |= {entry.id: entry for entry in ports.store.find(LedgerEntry, query)}
    pending = {e.id: e for e in accounts.accruing(still_open, now) if e.id.removeprefix("accruing.") not in found}
    return [*found.values(), *pending.values()], still_open
