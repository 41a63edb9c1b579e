"""Telling programs, the first half: what happened is written down for whoever wants it, with whatever it happened to.

A delivery is written in the transaction of what it tells of (an outbox), so that none is lost and none is made of what
did not happen; then hinted at, and handed out again by the sweep until it has ended. `deliveries` makes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import subscriptions as domain
from dumont.domain.errors import BusUnavailable
from dumont.domain.happenings import Happening
from dumont.domain.subscriptions import Delivery, SubscriptionIndex
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

TOPIC = "dumont-subscriptions"
RESEND_SECONDS = 60.0
"""A delivery that is due is handed out again after this, if nobody claimed it."""


def write(ports: Ports, tx: Transaction, happened: Sequence[Happening]) -> list[Delivery]:
    """Write down, within a transaction, the deliveries of what happens in it: one to each subscription that wants it.
    Those that are there already stay as they are."""
    if not happened or not ports.subscriptions:
        return []
    index = tx.get(SubscriptionIndex, domain.INDEX)
    now = ports.clock.now()
    made = []
    for happening in happened:
        for subscription in domain.who_wants(index, happening.type):
            delivery = domain.delivery_of(happening, subscription, now)
            if tx.get(Delivery, delivery.id) is None:
                tx.put(delivery)
                made.append(delivery)
    return made


def publish(ports: Ports, deliveries: Iterable[Delivery]) -> None:
    """Hint at deliveries that were committed; a lost hint is made good by the sweep's slow look."""
    for delivery in deliveries:
        hint(ports, delivery.id)


def hint(ports: Ports, delivery_id: str) -> bool:
    """Have the worker look at a delivery. False if it was not sent."""
    try:
        ports.bus.publish(TOPIC, {"delivery_id": delivery_id})
    except BusUnavailable as error:
        log.info("not published; the sweep will find it", extra={"delivery": delivery_id, "error": str(error)})
        return False
    return True


def look(ports: Ports) -> int:
    """A part of the sweep's slow look: hand out the deliveries that are due. Answers with how many."""
    if not ports.subscriptions:
        return 0
    now = ports.clock.now()
    handed = 0
    for delivery in ports.store.find(Delivery, queries.due(now)):
        if ports.store.transact(lambda tx, i=delivery.id: _put_off(tx, i, now)):  # type: ignore[misc]
            handed += hint(ports, delivery.id)
    return handed


def _put_off(tx: Transaction, delivery_id: str, now: float) -> bool:
    delivery = tx.get(Delivery, delivery_id)
    if delivery is None or delivery.deadline is None or delivery.deadline > now:
        return False
    tx.put(replace(delivery, deadline=now + RESEND_SECONDS))
    return True
