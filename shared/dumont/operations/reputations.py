"""Host reputation in the store: noting what was seen, and knowing the machines behind a list of offers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dumont import queries
from dumont.domain import reputation
from dumont.domain.errors import StoreError
from dumont.domain.host_events import HostEvent
from dumont.domain.offers import Offer, OfferQuery, RankedOffer, rank
from dumont.domain.reputation import HostRecord
from dumont.domain.trust import Known
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

KNOWN_MOST = 3 * queries.IN_MOST
"""For how many machines of a search our own records are read: three queries, so that a search stays fast."""


def note(tx: Transaction, offer: Offer, events: Iterable[HostEvent], now: float) -> None:
    """Count events towards the offer's machine, in a transaction that does something else as well.

    Nothing happens for an offer whose market does not say which machine it is. One document a machine: two of our
    operations meet there only if they rent the same machine at once.
    """
    told = tuple(events)
    fresh = reputation.unknown(offer, now)
    if not told or fresh is None:
        return
    before = tx.get(HostRecord, fresh.id)
    after = before if before is not None else fresh
    for event in told:
        after = reputation.observed(after, event, now)
    if after is not before:
        tx.put(after)


def note_apart(ports: Ports, offer: Offer, events: Iterable[HostEvent]) -> None:
    """The same in a transaction of its own. What is lost with the store is logged and no more: a reputation that lacks
    one boot is as good, and nothing waits for it."""
    told = tuple(events)
    try:
        ports.store.transact(lambda tx: note(tx, offer, told, ports.clock.now()))
    except StoreError as error:
        log.warning("not noted of the host", extra={"machine": offer.machine_id, "error": str(error)})


def known(ports: Ports, offers: Sequence[Offer]) -> dict[str, HostRecord]:
    """Our records of the machines behind the first `KNOWN_MOST` of the offers, by `machine_key`."""
    keys = list(dict.fromkeys(key for offer in offers if (key := reputation.key_of(offer)) is not None))[:KNOWN_MOST]
    found: dict[str, HostRecord] = {}
    for start in range(0, len(keys), queries.IN_MOST):
        batch = tuple(keys[start : start + queries.IN_MOST])
        found |= {r.machine_key: r for r in ports.store.find(HostRecord, queries.hosts_by_key(batch))}
    return found


def reputation_of(ports: Ports, offers: Sequence[Offer]) -> Known | None:
    """What we hold of the offers' machines now; None where the store does not answer: a search goes on without."""
    try:
        return Known(known(ports, offers), ports.clock.now())
    except StoreError as error:
        log.warning("ranked without reputation", extra={"error": str(error)})
        return None


def rank_by_reputation(ports: Ports, offers: Sequence[Offer], query: OfferQuery) -> list[RankedOffer]:
    """As `offers.rank`, by what we know ourselves. The records are read of those that rank best without them."""
    plainly = rank(offers, query)
    return rank(offers, query, reputation=reputation_of(ports, [entry.offer for entry in plainly]))
