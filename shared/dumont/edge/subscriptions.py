"""Webhooks out at the edge: what callers send, and how subscriptions and deliveries are shown."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from dumont.domain.happenings import TYPES
from dumont.domain.records import Role
from dumont.domain.subscriptions import Delivery, DeliveryState, Subscription
from dumont.edge import wiring
from dumont.edge.http import Answer, Call, no_such_path
from dumont.operations import deliveries, subscriptions

HIDDEN = ("schema_version", "generation", "retired", "shard", "deadline", "lease_owner", "lease_until", "tries")

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Events = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=200)]


class SubscriptionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription: where to, and to which types of events."""

    url: Url
    events: Events = ("*",)
    description: Text = ""


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a subscription is to change; what is not given stays."""

    url: Url | None = None
    events: Events | None = None
    enabled: bool | None = None
    description: Text | None = None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dead deliveries that were made since then (seconds since the epoch) are made again."""

    since: Annotated[float, Meta(ge=0)] = 0.0


class ListDeliveries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which state (None: of all), and how many of the newest."""

    state: DeliveryState | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


def create(call: Call) -> Answer:
    """201: the subscription, with the secret that is shown this once."""
    wish = call.body(SubscriptionRequest)
    made, secret = subscriptions.create(
        call.ports, wiring.courier(), url=wish.url, types=wish.events, created_by=call.caller,
        description=wish.description, loopback=_loopback(),
    )  # fmt: skip
    return Answer({"subscription": view(call, made), "secret": secret}, 201, {"Location": f"/subscriptions/{made.id}"})


def change(call: Call, subscription_id: str) -> Answer:
    """The subscription as it is after the change."""
    wish = call.body(ChangeRequest)
    changed = subscriptions.change(
        call.ports, wiring.courier(), subscription_id, url=wish.url, types=wish.events, enabled=wish.enabled,
        description=wish.description, loopback=_loopback(),
    )  # fmt: skip
    return Answer({"subscription": view(call, changed)})


def delete(call: Call, subscription_id: str) -> Answer:
    """What was deleted."""
    return Answer({"subscription": view(call, subscriptions.delete(call.ports, subscription_id))})


def show(call: Call, subscription_id: str) -> Answer:
    """One subscription."""
    return Answer({"subscription": view(call, subscriptions.find(call.ports, subscription_id))})


def every(call: Call) -> Answer:
    """All subscriptions, and the types that there are."""
    found = [view(call, subscription) for subscription in subscriptions.every(call.ports)]
    return Answer({"subscriptions": found, "events": TYPES})


def log_of(call: Call, subscription_id: str, delivery_id: str | None = None) -> Answer:
    """A subscription's deliveries, without their bodies; or one, with its body and its attempts."""
    if delivery_id is not None:
        return Answer({"delivery": shown(deliveries.find(call.ports, subscription_id, delivery_id))})
    wish = call.arguments(ListDeliveries)
    found = deliveries.listed(call.ports, subscription_id, state=wish.state, limit=wish.limit)
    return Answer({"deliveries": [shown(delivery, whole=False) for delivery in found]})


def wished(call: Call, subscription_id: str, *wish: str) -> Answer:
    """`rotate`: the new secret, shown this once. `test`, `deliveries/ID/replay`: 202, it is on its way. `replay`: 202,
    so many dead ones are on their way again."""
    match wish:
        case ("rotate",):
            rotated, secret = subscriptions.rotate(call.ports, subscription_id)
            return Answer({"subscription": view(call, rotated), "secret": secret})
        case ("test",):
            return Answer({"delivery": shown(deliveries.test(call.ports, subscription_id))}, 202)
        case ("replay",):
            again = deliveries.replay_dead(call.ports, subscription_id, since=call.body(ReplayRequest).since)
            return Answer({"replayed": len(again)}, 202)
        case ("deliveries", delivery_id, "replay"):
            return Answer({"delivery": shown(deliveries.replay(call.ports, subscription_id, delivery_id))}, 202)
    raise no_such_path(call)


def view(call: Call, subscription: Subscription) -> dict[str, Any]:
    """A subscription as callers see it. Who may only look sees which host it goes to: more of a URL may be a key."""
    fields = msgspec.to_builtins(subscription)
    seen = {k: v for k, v in fields.items() if v not in (None, "") and k not in (*HIDDEN, "types")}
    seen["events"] = list(subscription.types)
    if not call.key.role.reaches(Role.OPERATOR):
        parts = urlsplit(subscription.url)
        seen["url"] = f"{parts.scheme}://{parts.netloc}/…"
    now = call.ports.clock.now()
    until = max((old.until for old in subscription.retired if old.until > now), default=None)
    return seen | ({"old_secret_until": until} if until is not None else {})


def shown(delivery: Delivery, *, whole: bool = True) -> dict[str, Any]:
    """A delivery as callers see it."""
    fields = msgspec.to_builtins(delivery)
    hidden = HIDDEN if whole else (*HIDDEN, "body", "attempts")
    seen = {k: v for k, v in fields.items() if v not in (None, "") and k not in (*hidden, "not_before")}
    if delivery.state is DeliveryState.PENDING:
        seen["next_attempt_at"] = delivery.not_before
    if whole:
        seen["body"] = json.loads(delivery.body)
    else:
        seen["attempts_made"] = len(delivery.attempts)
        seen |= {"last_attempt": fields["attempts"][-1]} if delivery.attempts else {}
    return seen


def _loopback() -> bool:
    return wiring.settings().webhooks_loopback
