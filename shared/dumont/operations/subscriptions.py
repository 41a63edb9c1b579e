"""Subscriptions: made, changed, given a new secret, and deleted. Each keeps the index of who wants what in step."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import addresses
from dumont.domain import subscriptions as domain
from dumont.domain.errors import Conflict, InvalidInput, NotDelivered, Unknown
from dumont.domain.subscriptions import Subscription, SubscriptionIndex
from dumont.optional_ports import Courier
from dumont.ports import Ports, Transaction


def create(
    ports: Ports,
    courier: Courier,
    *,
    url: str,
    types: Sequence[str],
    created_by: str,
    description: str = "",
    loopback: bool = False,
) -> tuple[Subscription, str]:
    """Make a subscription; with it its secret, which is shown this once. Raises `InvalidInput` for an address that is
    not the internet's, or `Conflict` where there are too many."""
    wanted = domain.check_types(types)
    _check_url(courier, url, loopback=loopback)
    identifier = ports.ids.new("sub")
    # Before anything is written: where there is no key to make secrets with, there is no subscription.
    secret = domain.shown_secret(ports.subscription_secret(identifier, 1))

    def work(tx: Transaction) -> Subscription:
        index = tx.get(SubscriptionIndex, domain.INDEX) or SubscriptionIndex(id=domain.INDEX)
        if index.count >= domain.SUBSCRIPTIONS_MOST:
            raise Conflict(f"there are {index.count} subscriptions, and no more than that may be", code="too_many")
        now = ports.clock.now()
        made = Subscription(
            id=identifier, url=url, types=wanted, description=description, created_at=now, created_by=created_by,
            updated_at=now,
        )  # fmt: skip
        tx.put(made)
        tx.put(domain.indexed(replace(index, count=index.count + 1), made))
        return made

    return ports.store.transact(work), secret


def change(
    ports: Ports,
    courier: Courier,
    subscription_id: str,
    *,
    url: str | None = None,
    types: Sequence[str] | None = None,
    enabled: bool | None = None,
    description: str | None = None,
    loopback: bool = False,
) -> Subscription:
    """Change what is not None. One that is enabled, or goes elsewhere, begins anew: what failed before does not count.
    Raises as `create`, or `Unknown`."""
    wanted = domain.check_types(types) if types is not None else None
    if url is not None:
        _check_url(courier, url, loopback=loopback)

    def work(tx: Transaction) -> Subscription:
        now = ports.clock.now()
        changed = replace(_found(tx.get(Subscription, subscription_id), subscription_id), updated_at=now)
        if wanted is not None:
            changed = replace(changed, types=wanted)
        if url is not None and url != changed.url:
            changed = replace(changed, url=url, failing_since=None)
        if description is not None:
            changed = replace(changed, description=description)
        if enabled is not None:
            changed = replace(changed, enabled=enabled, why_disabled="", failing_since=None)
        tx.put(changed)
        tx.put(domain.indexed(tx.get(SubscriptionIndex, domain.INDEX), changed))
        return changed

    return ports.store.transact(work)


def rotate(ports: Ports, subscription_id: str) -> tuple[Subscription, str]:
    """Give a subscription a new secret, which is shown this once; the one before signs beside it for a day. Raises
    `Unknown`."""

    def work(tx: Transaction) -> tuple[Subscription, str]:
        subscription = _found(tx.get(Subscription, subscription_id), subscription_id)
        rotated = domain.rotated(subscription, ports.clock.now())
        # Before anything is written: where there is no key to make secrets with, the one before goes on.
        secret = domain.shown_secret(ports.subscription_secret(rotated.id, rotated.generation))
        tx.put(rotated)
        return rotated, secret

    return ports.store.transact(work)


def delete(ports: Ports, subscription_id: str) -> Subscription:
    """Delete a subscription: no try of a delivery to it begins from now on. Raises `Unknown`."""

    def work(tx: Transaction) -> Subscription:
        subscription = _found(tx.get(Subscription, subscription_id), subscription_id)
        index = tx.get(SubscriptionIndex, domain.INDEX)
        without = domain.indexed(index, replace(subscription, enabled=False))
        tx.put(replace(without, count=max(0, without.count - 1)))
        tx.delete(Subscription, subscription_id)
        return subscription

    return ports.store.transact(work)


def find(ports: Ports, subscription_id: str) -> Subscription:
    """One subscription. Raises `Unknown`."""
    return _found(ports.store.get(Subscription, subscription_id), subscription_id)


def every(ports: Ports) -> list[Subscription]:
    """All of them, the oldest first."""
    found = ports.store.find(Subscription, queries.all_subscriptions())
    return sorted(found, key=lambda subscription: (subscription.created_at, subscription.id))


def _check_url(courier: Courier, url: str, *, loopback: bool) -> None:
    target = addresses.parse(url, loopback=loopback)
    try:
        found = courier.resolve(target.host)
    except NotDelivered as error:
        raise InvalidInput(str(error), field="url", code="unresolved") from error
    if fault := addresses.fault(target, found, loopback=loopback):
        raise InvalidInput(fault, field="url", code="address_refused")


def _found(subscription: Subscription | None, subscription_id: str) -> Subscription:
    if subscription is None:
        raise Unknown(
            f"there is no subscription {subscription_id[:64]!r}", hint="`dumont webhook ls` shows those there are"
        )
    return subscription
