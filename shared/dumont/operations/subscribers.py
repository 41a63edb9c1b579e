"""Telling programs, the first half: what happened is written down for whoever wants it, with whatever it happened to.

A delivery is written in the transaction of what it tells of (an outbox), so that none is lost and none is made of what
did not happen; then hinted at, and handed out again by the sweep until it has ended. `deliveries` makes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dumont import queries
from dumont.domain import subscriptions as domain
from dumont.domain.errors import BusUnavailable
from dumont.domain.happenings import Happening
from dumont.domain.subscriptions import Delivery, SubscriptionIndex
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

TOPIC = "dumont-subscriptions"
HANDED_OUT_MOST = 200
"""At one look. The sweep that looks also listens for hosts that fall silent, and each hint takes a moment: a backlog is
handed out minute by minute, what has waited longest first."""


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


def publish(ports: Ports, deliveries: Iterable[Delivery]) -> int:
    """Hint at deliveries that were committed; what is not sent, or lost, is made good by the sweep's slow look. Answers
    with how many were sent: none after the first that was not, since a bus that is away takes 20 s to say so each time,
    and who publishes may hold a lease, or be the sweep."""
    sent = 0
    for delivery in deliveries:
        if not _hint(ports, delivery.id):
            break
        sent += 1
    return sent


def look(ports: Ports) -> int:
    """A part of the sweep's slow look, once a minute: hand out the deliveries that are due. Answers with how many.
    Those that are handed out twice are claimed once."""
    if not ports.subscriptions:
        return 0
    return publish(ports, ports.store.find(Delivery, queries.due(ports.clock.now(), limit=HANDED_OUT_MOST)))


def _hint(ports: Ports, delivery_id: str) -> bool:
    try:
        ports.bus.publish(TOPIC, {"delivery_id": delivery_id})
    except BusUnavailable as error:
        log.info("not published; the sweep will find it", extra={"delivery": delivery_id, "error": str(error)})
        return False
    return True
