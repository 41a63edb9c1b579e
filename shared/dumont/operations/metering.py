"""The slow look: what the reaper's list says of each instance goes to its meter, and its days to the ledger.

The list is read anyway, once a minute, whatever there is; it writes only what has changed, and each instance's record
once an hour.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from dumont.domain import ledger as domain
from dumont.domain import meter
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import Instance, InstanceState, Schedule
from dumont.domain.turns import Billed
from dumont.operations import ledger
from dumont.operations.schedules import note_run
from dumont.ports import Ports, ProviderInstance, Transaction

log = logging.getLogger(__name__)

POST_SECONDS = 3600.0
"""How often an instance's record is brought up to date though nothing has changed, and its traffic entered."""
AT_REST_SECONDS = 50.0
"""The same for one that does not run: for as long as nobody has looked, a budget counts it as if it did."""
FRESH_SECONDS = 15.0
"""A host that was heard so short a time before the list says "stopped" runs: Vast's statuses lag."""
_LOOKED_AT = (InstanceState.INTENDED, InstanceState.CREATED, InstanceState.GONE)
"""Those that boot are looked at by the operation that rents them, more often and with more care."""


def learn(
    ports: Ports, provider: str, listed: Sequence[ProviderInstance], books: Mapping[str, Instance], asked_at: float
) -> int:
    """Meter what a provider lists, and enter what is due. `asked_at`: when the list was asked for. Answers with how
    many instances were written."""
    known = ports.store.get(Schedule, f"meter-{provider}")
    before_at = known.last_run_at if known is not None else 0.0
    by_id = {i.provider_instance_id: i for i in books.values() if i.provider == provider}
    written = 0
    for seen in listed:
        instance = by_id.get(seen.id)
        state = meter.billed_as(seen.status)
        if instance is None or state is None or instance.state in _LOOKED_AT:
            continue
        if _is_news(instance, state, asked_at):
            written += _meter(ports, instance.id, state, asked_at, before_at)
    # Written last: it says that until then all that is in the books and was not found changed had not changed.
    note_run(ports, f"meter-{provider}", asked_at)
    return written


def _is_news(instance: Instance, state: Billed, now: float) -> bool:
    known = meter.turns(instance)
    if not known:
        return False
    current = known[-1].state
    if (state is Billed.RUNNING) != (current is Billed.RUNNING) or (state is Billed.OFFLINE) != (
        current is Billed.OFFLINE
    ):
        return True
    if domain.closable_days(instance, now) is not None:
        return True
    stale = now - (instance.metered_at or known[-1].seen_at)
    return stale >= (POST_SECONDS if current in (Billed.RUNNING, Billed.PAUSED) else AT_REST_SECONDS)


def _meter(ports: Ports, instance_id: str, state: Billed, asked_at: float, before_at: float) -> bool:
    def work(tx: Transaction) -> bool:
        now = ports.clock.now()
        before = tx.get(Instance, instance_id)
        if before is None or before.state in _LOOKED_AT:
            return False
        beat = tx.get(Heartbeat, instance_id)
        heard_at = beat.received_at if beat is not None and beat.sequence >= 0 else 0.0
        if state is not Billed.RUNNING and heard_at > asked_at - FRESH_SECONDS:
            return False
        if state is Billed.RUNNING and before.booted_at is None and not before.turns:
            # One that is let go of before it was seen to run, and runs: it bills.
            before_or_booted = replace(before, booted_at=asked_at)
            after = replace(before_or_booted, turns=meter.turns(before_or_booted), metered_at=asked_at)
        else:
            after = meter.saw(before, state, asked_at, heard_at=max(before_at, min(heard_at, asked_at)))
        midnight = domain.closable_days(after, meter.known_at(after))
        if midnight is not None:
            after = replace(after, posted_until=midnight)
        if after == before:
            return False
        ledger.put_with_traffic(tx, before, after, now)
        return True

    return ports.store.transact(work)
