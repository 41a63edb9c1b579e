"""The routes of the functions about API keys and tokens, and about webhooks out."""

from __future__ import annotations

from typing import Any, Literal

from dumont.domain.records import Role
from dumont.domain.subscriptions import Delivery, Subscription
from dumont.edge import key_views, subscriptions
from dumont.openapi.routes import Route
from dumont.openapi.shapes import many, maybe, shape, shown

# --- Keys and tokens ----------------------------------------------------------------------------------------------

_KEY = shape(
    "KeyView",
    "A key as admins see it; its secret is in no answer but the one that makes it.",
    id=str,
    name=str,
    role=Role,
    owner=maybe(str),
    state=Literal["good", "ended", "revoked"],
    by_setting=bool,
    created_at=maybe(float),
    created_by=maybe(str),
    expires_at=maybe(float),
    last_used_at=maybe(float),
    rotated_at=maybe(float),
    previous_until=maybe(float),
    revoked_at=maybe(float),
)
_ONE_KEY = shape("KeyAnswer", "A key.", key=_KEY)
_NEW_SECRET = shape("KeyWithSecret", "A key with its text, which is shown this once.", key=_KEY, secret=str)
_KEYS = shape("Keys", "The keys, oldest first.", keys=many(_KEY))
_TOKEN = shape(
    "TokenAnswer",
    "A token (JWT), with when it ends, what it may do, and the key that it is of.",
    token=str,
    token_type=Literal["Bearer"],
    expires_at=float,
    role=Role,
    key=str,
)

# --- Webhooks out -------------------------------------------------------------------------------------------------

_SUBSCRIPTION = shown(
    "SubscriptionView",
    Subscription,
    "A subscription. Who may only look sees of its URL which host it goes to.",
    (*subscriptions.HIDDEN, "types"),
    events=list[str],
    old_secret_until=maybe(float),
)
_DELIVERY = shown(
    "DeliveryView",
    Delivery,
    "A delivery with all its attempts.",
    (*subscriptions.HIDDEN, "not_before"),
    next_attempt_at=maybe(float),
    body=Any,
)
_DELIVERY_LINE = shown(
    "DeliveryLine",
    Delivery,
    "A delivery, without its body, and of its attempts the last one.",
    (*subscriptions.HIDDEN, "not_before", "body", "attempts"),
    next_attempt_at=maybe(float),
    attempts_made=int,
    last_attempt=maybe(dict[str, Any]),
)
_ONE = shape("SubscriptionAnswer", "A subscription.", subscription=_SUBSCRIPTION)
_WITH_SECRET = shape(
    "SubscriptionWithSecret",
    "A subscription with the secret that signs for it, which is shown this once.",
    subscription=_SUBSCRIPTION,
    secret=str,
)
_ALL = shape(
    "Subscriptions",
    "All subscriptions, and the types of events that there are, with what each tells.",
    subscriptions=many(_SUBSCRIPTION),
    events=dict[str, str],
)
_ONE_DELIVERY = shape("DeliveryAnswer", "A delivery.", delivery=_DELIVERY)
_DELIVERIES = shape("Deliveries", "The newest deliveries.", deliveries=many(_DELIVERY_LINE))
_REPLAYED = shape("Replayed", "How many dead deliveries are on their way again.", replayed=int)

FUNCTIONS: dict[str, tuple[Route, ...]] = {
    "keys": (
        Route("GET", "", "The API keys", {200: _KEYS}, arguments=key_views.ListKeys),
        Route("POST", "", "Make an API key", {201: _NEW_SECRET}, body=key_views.CreateKey, located=True),
        Route("GET", "/{id}", "An API key", {200: _ONE_KEY}),
        Route(
            "POST",
            "/{id}/rotate",
            "Give a key a new secret",
            {200: _NEW_SECRET},
            body=key_views.RotateKey,
            body_may_be_absent=True,
        ),
        Route("POST", "/{id}/revoke", "End a key at once", {200: _ONE_KEY}),
    ),
    "token": (
        Route(
            "POST", "", "A token of the key that asks", {200: _TOKEN}, body=key_views.TokenWish, body_may_be_absent=True
        ),
    ),
    "subscriptions": (
        Route("GET", "", "The webhooks", {200: _ALL}),
        Route(
            "POST", "", "Register a webhook", {201: _WITH_SECRET}, body=subscriptions.SubscriptionRequest, located=True
        ),
        Route("GET", "/{id}", "A webhook", {200: _ONE}),
        Route("POST", "/{id}", "Change a webhook", {200: _ONE}, body=subscriptions.ChangeRequest),
        Route("DELETE", "/{id}", "Remove a webhook", {200: _ONE}),
        Route("POST", "/{id}/rotate", "A new secret; the old one signs too for a day", {200: _WITH_SECRET}),
        Route("POST", "/{id}/test", "Send a dumont.test", {202: _ONE_DELIVERY}),
        Route(
            "POST", "/{id}/replay", "Send again what did not arrive", {202: _REPLAYED}, body=subscriptions.ReplayRequest
        ),
        Route(
            "GET",
            "/{id}/deliveries",
            "What was sent to a webhook",
            {200: _DELIVERIES},
            arguments=subscriptions.ListDeliveries,
        ),
        Route(
            "GET", "/{id}/deliveries/{delivery}", "One delivery, with its body and its attempts", {200: _ONE_DELIVERY}
        ),
        Route("POST", "/{id}/deliveries/{delivery}/replay", "Send one delivery again", {202: _ONE_DELIVERY}),
    ),
}
