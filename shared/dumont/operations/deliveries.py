"""Telling programs, the second half: a delivery is claimed, sent, and noted; and replayed, if somebody asks.

At least once: a worker that dies between sending and noting has sent, and another one sends again, under the same id.
None to a subscription that was deleted: it is looked for when a try is claimed, and what finds none goes.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont import queries
from dumont.domain import addresses
from dumont.domain import alerts as to_tell
from dumont.domain import subscriptions as domain
from dumont.domain.alerts import Alert
from dumont.domain.errors import Conflict, InvalidInput, NotDelivered, Unknown
from dumont.domain.happenings import trial_of
from dumont.domain.subscriptions import Attempt, Delivery, DeliveryState, Subscription, SubscriptionIndex
from dumont.operations import alerts, subscribers
from dumont.operations.rest import wake_if_possible
from dumont.optional_ports import Courier, Posted
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

REPLAYED_MOST = 500
"""So many are replayed at one request; the rest at the next."""
USER_AGENT = "Dumont-Webhooks/1"

# --- Making them --------------------------------------------------------------------------------------------------


def deliver(ports: Ports, courier: Courier, delivery_id: str, *, loopback: bool = False) -> DeliveryState | None:
    """Try a delivery that is due, and again at once where the wait is short. Answers with how it stands; None where
    nothing was to be tried now, or another is at it. Raises `StoreError`: then the message that called us comes again.
    """
    owner = ports.ids.new("deliver")
    while True:
        claim = ports.store.transact(lambda tx: _claim(ports, tx, delivery_id, owner))
        if claim is None:
            return None
        delivery, subscription = claim
        if subscription is None:
            _say_if_lost(delivery)
            return None
        attempt, retry_after_seconds = _try(ports, courier, delivery, subscription, loopback=loopback)
        after = _settle(ports, delivery, subscription.url, owner, attempt, retry_after_seconds)
        if after is None or after.state is not DeliveryState.PENDING:
            return after.state if after is not None else None
        wait = after.not_before - ports.clock.now()
        if wait > domain.ON_THE_SPOT_SECONDS:
            return after.state
        ports.clock.sleep(max(wait, 0.0) + 0.01)


def _claim(ports: Ports, tx: Transaction, delivery_id: str, owner: str) -> tuple[Delivery, Subscription | None] | None:
    """A delivery, and where it is to be tried now: nowhere if it has ended by that. None if there is nothing to do."""
    now = ports.clock.now()
    delivery = tx.get(Delivery, delivery_id)
    if delivery is None or delivery.state is not DeliveryState.PENDING or delivery.not_before > now:
        return None
    if delivery.lease_owner not in (None, owner) and delivery.lease_until > now:
        return None
    subscription = tx.get(Subscription, delivery.subscription)
    if subscription is None:
        tx.delete(Delivery, delivery_id)
        return None
    ended = ""
    if not subscription.enabled:
        ended = "disabled"
    elif delivery.tries > len(domain.RETRY_SECONDS):  # each of its tries killed whoever made it
        ended = "exhausted"
    claimed = domain.dead(delivery, ended) if ended else domain.claimed(delivery, owner, now)
    tx.put(claimed)
    return claimed, None if ended else subscription


def _try(
    ports: Ports, courier: Courier, delivery: Delivery, subscription: Subscription, *, loopback: bool
) -> tuple[Attempt, float]:
    """One try: its outcome, and how long the receiver asks us to wait."""
    began = ports.clock.now()
    body = delivery.body.encode()
    secrets = [ports.subscription_secret(subscription.id, n) for n in domain.generations(subscription, began)]
    headers = domain.headers(delivery.id, body, secrets, began) | {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    try:
        posted = _post(courier, subscription.url, headers, body, loopback=loopback)
    except (NotDelivered, InvalidInput) as error:
        return Attempt(at=began, seconds=_since(ports, began), error=str(error)[:300]), 0.0
    return Attempt(at=began, seconds=_since(ports, began), status=posted.status), posted.retry_after_seconds


def _post(courier: Courier, url: str, headers: dict[str, str], body: bytes, *, loopback: bool) -> Posted:
    target = addresses.parse(url, loopback=loopback)
    found = courier.resolve(target.host)
    # What is looked at here is what is connected to: nobody asks a second time, so nobody can be told otherwise.
    if fault := addresses.fault(target, found, loopback=loopback):
        raise NotDelivered(fault)
    return courier.post(target, found, headers, body)


def _since(ports: Ports, began: float) -> float:
    return round(ports.clock.now() - began, 3)


def _settle(
    ports: Ports, delivery: Delivery, url: str, owner: str, attempt: Attempt, retry_after_seconds: float
) -> Delivery | None:
    """Note a try, and what follows from it. None where that is not ours to say any more. What another URL than the
    subscription's of now has answered says nothing of that: it is neither gone nor failing."""

    def work(tx: Transaction) -> tuple[Delivery | None, Alert | None]:
        fresh = tx.get(Delivery, delivery.id)
        subscription = tx.get(Subscription, delivery.subscription)
        if fresh is None or fresh.state is not DeliveryState.PENDING:
            return None, None
        if subscription is None:
            tx.delete(Delivery, delivery.id)
            return None, None
        now = ports.clock.now()
        moved = subscription.url != url
        after = domain.attempted(fresh, attempt, retry_after_seconds=retry_after_seconds, now=now, moved=moved)
        if fresh.lease_owner != owner and after.state is not DeliveryState.DELIVERED:
            # Another one is at it by now: that we have failed is no more than a line of its log.
            tx.put(replace(fresh, attempts=after.attempts))
            return None, None
        tx.put(after)
        changed = subscription if moved else domain.after_attempt(subscription, after, now)
        if changed != subscription:
            tx.put(changed)
        if subscription.enabled and not changed.enabled:
            tx.put(domain.indexed(tx.get(SubscriptionIndex, domain.INDEX), changed))
            alert = to_tell.of_webhook(changed.id, changed.why_disabled, now)
            if ports.alerts:
                tx.put(alert)
            return after, alert
        return after, None

    after, disabled = ports.store.transact(work)
    if after is not None:
        _say_if_lost(after)
    if disabled is not None:
        log.error("a webhook is disabled", extra=disabled.words)
        alerts.publish(ports, [disabled] if ports.alerts else [])
    return after


def _say_if_lost(delivery: Delivery) -> None:
    """Alerts listen for these words. What dies since its subscription was disabled was said with that."""
    if delivery.state is DeliveryState.DEAD and delivery.why_dead != "disabled":
        log.error(
            "a webhook was not delivered",
            extra={
                "delivery": delivery.id, "subscription": delivery.subscription, "type": delivery.type,
                "why": delivery.why_dead,
            },
        )  # fmt: skip


# --- Looking, trying out, replaying -------------------------------------------------------------------------------


def listed(ports: Ports, subscription_id: str, *, state: DeliveryState | None, limit: int) -> list[Delivery]:
    """A subscription's deliveries, newest first. Raises `Unknown`."""
    _known(ports.store.get(Subscription, subscription_id), subscription_id)
    if state is None:
        return ports.store.find(Delivery, queries.deliveries_to(subscription_id, limit=limit))
    return ports.store.find(Delivery, queries.deliveries_in_state(subscription_id, state.value, limit=limit))


def find(ports: Ports, subscription_id: str, delivery_id: str) -> Delivery:
    """One delivery. Raises `Unknown`."""
    delivery = ports.store.get(Delivery, delivery_id)
    if delivery is None or delivery.subscription != subscription_id:
        raise Unknown(f"{subscription_id} has no delivery {delivery_id[:64]!r}")
    return delivery


def test(ports: Ports, subscription_id: str) -> Delivery:
    """Send a test, whatever types the subscription is for. Raises `Unknown`, or `Conflict` for a disabled one."""
    unique = ports.ids.new("test")

    def work(tx: Transaction) -> Delivery:
        _enabled(_known(tx.get(Subscription, subscription_id), subscription_id))
        now = ports.clock.now()
        delivery = domain.delivery_of(trial_of(unique, subscription_id, now), subscription_id, now)
        tx.put(delivery)
        return delivery

    return _begin(ports, [ports.store.transact(work)])[0]


def replay(ports: Ports, subscription_id: str, delivery_id: str) -> Delivery:
    """Make a delivery again, under its old id, though it was made; one that is on its way is left at it. Raises
    `Unknown`, or `Conflict` for a disabled subscription."""

    def work(tx: Transaction) -> Delivery:
        _enabled(_known(tx.get(Subscription, subscription_id), subscription_id))
        delivery = tx.get(Delivery, delivery_id)
        if delivery is None or delivery.subscription != subscription_id:
            raise Unknown(f"{subscription_id} has no delivery {delivery_id[:64]!r}")
        if delivery.state is DeliveryState.PENDING:
            return delivery
        again = domain.replayed(delivery, ports.clock.now())
        tx.put(again)
        return again

    return _begin(ports, [ports.store.transact(work)])[0]


def replay_dead(ports: Ports, subscription_id: str, *, since: float) -> list[Delivery]:
    """Make the newest dead deliveries again that were made since then, `REPLAYED_MOST` at most. Raises `Unknown`, or
    `Conflict` for a disabled subscription."""
    found = listed(ports, subscription_id, state=DeliveryState.DEAD, limit=REPLAYED_MOST)

    def work(tx: Transaction, delivery_id: str) -> Delivery | None:
        _enabled(_known(tx.get(Subscription, subscription_id), subscription_id))
        fresh = tx.get(Delivery, delivery_id)
        if fresh is None or fresh.state is not DeliveryState.DEAD:
            return None
        again = domain.replayed(fresh, ports.clock.now())
        tx.put(again)
        return again

    _enabled(_known(ports.store.get(Subscription, subscription_id), subscription_id))
    again: list[Delivery] = []
    try:
        for known in found:
            if known.created_at >= since:
                made = ports.store.transact(lambda tx, i=known.id: work(tx, i))  # type: ignore[misc]
                again += [made] if made is not None else []
    finally:
        # Of a store that fails in between, what it has committed is on its way all the same.
        _begin(ports, again)
    return again


def _begin(ports: Ports, made: list[Delivery]) -> list[Delivery]:
    """Whoever asks may do so while nothing sweeps: then what is lost here would lie until the next wish. Also where
    nothing was made: a wish whose answer was lost may have made it, and comes again."""
    if ports.make_schedule is not None:
        wake_if_possible(ports, ports.make_schedule())
    subscribers.publish(ports, made)
    return made


def _known(subscription: Subscription | None, subscription_id: str) -> Subscription:
    if subscription is None:
        raise Unknown(
            f"there is no subscription {subscription_id[:64]!r}", hint="`dumont webhook ls` shows those there are"
        )
    return subscription


def _enabled(subscription: Subscription) -> None:
    if not subscription.enabled:
        raise Conflict(f"{subscription.id} is disabled: nothing is sent to it", code="disabled", hint="enable it first")
