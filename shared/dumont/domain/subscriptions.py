"""Webhooks out: who wants to be told of what, each message to them, how it is signed, and when it is sent again. Pure.

Signed as Standard Webhooks has it (https://github.com/standard-webhooks/standard-webhooks): its libraries verify it.
Secrets are made of the deployment's token key when they are needed, and stored nowhere.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import zlib
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from dumont.domain.errors import InvalidInput
from dumont.domain.happenings import TYPES, Happening, body_of
from dumont.domain.names import shard_of
from dumont.domain.records import Record

ALL = "*"
SUBSCRIPTIONS_MOST = 20
"""Each happening reads who wants it within its own transaction: one record, which stays small."""
KEPT_SECONDS = 30 * 86_400.0
"""How long a delivery stays in the log, and can be replayed, after it was made or last replayed."""
HINT_SECONDS = 30.0
"""If the hint at a delivery is lost, the sweep finds it after this."""
LEASE_SECONDS = 60.0
ANSWER_SECONDS = 15.0
"""A receiver that has not answered by then has failed: Standard Webhooks advises 15 to 30."""
RETRY_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""The waits after each failed try; a day and 3.6 hours in all, as Svix, which wrote the standard, has them
(https://docs.svix.com/retries)."""
JITTER = 0.2
RETRY_AFTER_SECONDS_MOST = 3600.0
ON_THE_SPOT_SECONDS = 10.0
"""A wait as short is made by the invocation itself: sweeps look for deliveries once a minute."""
FAILING_SECONDS = 3 * 86_400.0
"""If nothing has got through for so long, and a delivery has just failed for good, its subscription is disabled."""
OLD_SECRET_SECONDS = 86_400.0
"""A secret that was replaced goes on signing, beside the new one, for a day."""
ATTEMPTS_KEPT = 24


class Retired(msgspec.Struct, frozen=True):
    """A generation of the secret that was replaced, and until when it signs."""

    generation: int
    until: float


class Subscription(Record, frozen=True, kw_only=True):
    """Somebody who wants to be told. `types` are names of `happenings.TYPES`, or "*"."""

    collection: ClassVar[str] = "subscriptions"

    url: str
    types: tuple[str, ...]
    description: str = ""
    enabled: bool = True
    why_disabled: str = ""
    """"gone" (it answered 410), "failing", or "" where a user did it."""
    created_at: float
    created_by: str = ""
    updated_at: float
    generation: int = 1
    """Of the secret that signs."""
    retired: tuple[Retired, ...] = ()
    failing_since: float | None = None
    """When the first try failed since anything last got through; None: nothing has failed since."""


class Wanted(msgspec.Struct, frozen=True):
    """Of one enabled subscription: its id, and the types that it is for."""

    subscription: str
    types: tuple[str, ...]


class SubscriptionIndex(Record, frozen=True, kw_only=True):
    """Who wants what: one document, which whoever has something to tell reads in the transaction in which it happens.
    So a happening and its deliveries are written together, or not at all."""

    collection: ClassVar[str] = "subscription_index"

    wanted: tuple[Wanted, ...] = ()
    count: int = 0
    """Of all subscriptions, disabled ones too."""


INDEX = "all"


class DeliveryState(enum.StrEnum):
    """DEAD: not tried any more, unless it is replayed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try: when, how long it took, and the receiver's status or why there was none."""

    at: float
    seconds: float
    status: int | None = None
    error: str = ""


class Delivery(Record, frozen=True, kw_only=True):
    """One happening on its way to one subscription. `id` is the webhook-id, the same at each try, by which a receiver
    tells what comes twice; `body` are the bytes that are signed and sent."""

    collection: ClassVar[str] = "deliveries"

    subscription: str
    type: str
    body: str
    created_at: float
    state: DeliveryState = DeliveryState.PENDING
    why_dead: str = ""
    """"exhausted", "gone", "disabled"."""
    tries: int = 0
    """Begun since it was made or replayed."""
    attempts: tuple[Attempt, ...] = ()
    """The last `ATTEMPTS_KEPT`."""
    not_before: float = 0.0
    """When the next try is due."""
    delivered_at: float | None = None
    lease_owner: str | None = None
    lease_until: float = 0.0
    deadline: float | None = None
    shard: int = 0
    expires_at: float


# --- What is wanted -----------------------------------------------------------------------------------------------


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """The types, each once. Raises `InvalidInput` for what is none."""
    if not types:
        raise InvalidInput("names no event", field="events", hint='"*" is all of them')
    unknown = [name for name in types if name not in TYPES and name != ALL]
    if unknown:
        raise InvalidInput(
            f"{unknown[0][:64]!r} is no event", field="events", hint=f'"*" (all), {", ".join(sorted(TYPES))}'
        )
    return (ALL,) if ALL in types else tuple(dict.fromkeys(types))


def who_wants(index: SubscriptionIndex | None, kind: str) -> list[str]:
    """The ids of the subscriptions that are for a type."""
    wanted = index.wanted if index is not None else ()
    return [entry.subscription for entry in wanted if kind in entry.types or ALL in entry.types]


def indexed(index: SubscriptionIndex | None, subscription: Subscription) -> SubscriptionIndex:
    """The index with a subscription as it is now, which was counted before."""
    known = index if index is not None else SubscriptionIndex(id=INDEX)
    others = tuple(entry for entry in known.wanted if entry.subscription != subscription.id)
    mine = (Wanted(subscription.id, subscription.types),) if subscription.enabled else ()
    return replace(known, wanted=others + mine)


# --- Messages -----------------------------------------------------------------------------------------------------


def delivery_of(happening: Happening, subscription_id: str, now: float) -> Delivery:
    """The delivery of a happening to a subscription: the same one, however often it is noticed."""
    unique = hashlib.sha256(f"{subscription_id}\n{happening.id}".encode()).hexdigest()[:32]
    identifier = f"msg_{unique}"
    return Delivery(
        id=identifier, subscription=subscription_id, type=happening.type, body=body_of(happening), created_at=now,
        not_before=now, deadline=now + HINT_SECONDS, shard=shard_of(identifier), expires_at=now + KEPT_SECONDS,
    )  # fmt: skip


def replayed(delivery: Delivery, now: float) -> Delivery:
    """A delivery to be made again from its first try on, under its old id."""
    return replace(
        delivery, state=DeliveryState.PENDING, why_dead="", tries=0, not_before=now, deadline=now + HINT_SECONDS,
        expires_at=now + KEPT_SECONDS,
    )  # fmt: skip


def claimed(delivery: Delivery, owner: str, now: float) -> Delivery:
    """A delivery whose next try begins. The try counts from now on, and until it is noted it passes for one that has
    failed: one that kills its worker is made neither for ever nor, one lease after another, eight times in minutes."""
    until = now + LEASE_SECONDS
    begun = replace(delivery, tries=delivery.tries + 1, lease_owner=owner, lease_until=until)
    next_at = max(until, now + (wait_seconds(begun) or 0.0))
    return replace(begun, not_before=next_at, deadline=next_at)


def attempted(
    delivery: Delivery, attempt: Attempt, *, retry_after_seconds: float, now: float, moved: bool = False
) -> Delivery:
    """A delivery after a try, which is over. `moved`: its subscription goes elsewhere since the try began."""
    tried = replace(
        delivery, attempts=(*delivery.attempts, attempt)[-ATTEMPTS_KEPT:], lease_owner=None, lease_until=0.0
    )
    if attempt.status is not None and 200 <= attempt.status < 300:
        return replace(tried, state=DeliveryState.DELIVERED, delivered_at=now, deadline=None, not_before=0.0)
    if attempt.status == GONE and not moved:
        return dead(tried, "gone")
    wait = wait_seconds(delivery)
    if wait is None:
        return dead(tried, "exhausted")
    not_before = now + max(wait, min(retry_after_seconds, RETRY_AFTER_SECONDS_MOST))
    return replace(tried, not_before=not_before, deadline=not_before)


GONE = 410
"""The receiver says that it wants no more: Standard Webhooks has its subscription disabled."""


def wait_seconds(delivery: Delivery) -> float | None:
    """How long to wait after the try that failed; None if it was the last. The jitter differs by delivery, so that what
    failed together does not come back together."""
    if not 1 <= delivery.tries <= len(RETRY_SECONDS):
        return None
    share = zlib.crc32(f"{delivery.id}.{delivery.tries}".encode()) / 2**32
    return RETRY_SECONDS[delivery.tries - 1] * (1.0 + JITTER * share)


def dead(delivery: Delivery, why: str) -> Delivery:
    """A delivery that is not tried any more."""
    return replace(
        delivery,
        state=DeliveryState.DEAD,
        why_dead=why,
        deadline=None,
        not_before=0.0,
        lease_owner=None,
        lease_until=0.0,
    )


def after_attempt(subscription: Subscription, delivery: Delivery, now: float) -> Subscription:
    """A subscription after a try of one of its deliveries, which is in `delivery` as it stands now."""
    if delivery.state is DeliveryState.DELIVERED:
        return replace(subscription, failing_since=None) if subscription.failing_since is not None else subscription
    failing = subscription.failing_since if subscription.failing_since is not None else now
    failing_one = replace(subscription, failing_since=failing)
    if delivery.state is not DeliveryState.DEAD or not subscription.enabled:
        return failing_one
    if delivery.why_dead == "gone" or now - failing >= FAILING_SECONDS:
        why = "gone" if delivery.why_dead == "gone" else "failing"
        return replace(failing_one, enabled=False, why_disabled=why, updated_at=now)
    return failing_one


# --- Signatures ---------------------------------------------------------------------------------------------------


def shown_secret(secret: bytes) -> str:
    """A secret as receivers' libraries take it."""
    return "whsec_" + base64.b64encode(secret).decode()


def rotated(subscription: Subscription, now: float) -> Subscription:
    """A subscription whose secret is replaced; the one before signs for a day longer."""
    still = tuple(old for old in subscription.retired if old.until > now)
    retired = (*still, Retired(subscription.generation, now + OLD_SECRET_SECONDS))[-2:]
    return replace(subscription, generation=subscription.generation + 1, retired=retired, updated_at=now)


def generations(subscription: Subscription, now: float) -> list[int]:
    """The generations of its secret that sign now, the newest first."""
    return [subscription.generation, *(old.generation for old in reversed(subscription.retired) if old.until > now)]


def headers(delivery_id: str, body: bytes, secrets: Iterable[bytes], now: float) -> dict[str, str]:
    """The header fields that prove a message: its id, when it is sent, and a signature with each secret."""
    timestamp = str(int(now))
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signature(secret, delivery_id, timestamp, body) for secret in secrets),
    }


def signature(secret: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over id, timestamp and body, with dots between them."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
