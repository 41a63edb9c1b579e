"""Slack's requests at the door: proven, taken once, and answered within the three seconds that Slack waits.

What only reads the store is answered at once. All else is the worker's: it is written down, the worker is told, and
the answer comes by the request's own URL. Should the worker not be told, the sweep tells it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from msgspec.structs import replace

from dumont.domain import chats
from dumont.domain.chats import Chat
from dumont.domain.errors import Forbidden, InvalidInput, NotTellable, NotTold
from dumont.domain.names import shard_of
from dumont.edge import wiring
from dumont.edge.http import Answer, Call, no_such_path
from dumont.edge.slack import looking, proof
from dumont.edge.slack.answers import audit
from dumont.edge.slack.words import Wish, parse
from dumont.operations.alerts import hint
from dumont.ports import Ports, Transaction
from dumont.settings import Settings

log = logging.getLogger(__name__)

LATE_SECONDS = 2.5
"""Slack shows no answer that comes after three seconds: one that may be late is sent to the request's URL."""
OK = Answer(b"")
_TEXT_MOST = 3000


def serve(call: Call) -> Answer:
    """Answer a request of Slack's. Raises `Unauthenticated`, `Forbidden`, `InvalidInput`, `Unknown`."""
    return answer(call.ports, wiring.settings(), call.path, dict(call.request.headers.items()), call.raw_body(), call)


def answer(
    ports: Ports, settings: Settings, path: list[str], headers: Mapping[str, str], body: bytes, call: Call
) -> Answer:
    """The same, from a request's parts."""
    signed_at = proof.check(settings, ports.clock, headers, body)
    match path:
        case ["commands"]:
            form = _form(body)
            proof.check_team(settings, form.get("team_id"))
            return _command(ports, settings, form, signed_at, _signature(headers))
        case ["actions"]:
            payload = _json(_form(body).get("payload", ""))
            proof.check_team(settings, _text(payload, "team", "id") or _text(payload, "user", "team_id"))
            return _action(ports, settings, payload, _signature(headers))
        case ["events"]:
            event = _json(body.decode())
            if event.get("type") == "url_verification":
                return Answer({"challenge": str(event.get("challenge", ""))[:500]})
            proof.check_team(settings, event.get("team_id"))
            log.info("an event of Slack's, not asked for", extra={"event": _text(event, "event", "type")[:60]})
            return OK
    raise no_such_path(call)


def _command(ports: Ports, settings: Settings, form: Mapping[str, str], signed_at: float, signature: str) -> Answer:
    chat = _chat(ports, "command", form.get("trigger_id") or signature)
    chat = replace(
        chat,
        user=form.get("user_id", "")[:40],
        user_name=form.get("user_name", "")[:80],
        channel=form.get("channel_id", "")[:40],
        text=form.get("text", "")[:_TEXT_MOST],
        reply_url=reply_url(settings, form.get("response_url", "")),
    )
    wish = parse(chat.text)
    found = looking.at_once(ports, settings, chat.user, wish)
    if not _take(ports, chat, for_worker=found is None):
        return OK
    if found is not None and found.code == Forbidden.code and isinstance(wish, Wish):
        audit(ports, chat, f"/dumont {wish.verb}", wish.name, found)
    if found is None:
        hint(ports, {"chat_id": chat.id})
        return OK
    if ports.clock.now() - signed_at > LATE_SECONDS and chat.reply_url and _sent(chat, found.message(chat)):
        return OK
    kind = "in_channel" if found.to_all else "ephemeral"
    return Answer({"response_type": kind, "text": found.text, "blocks": found.blocks})


def _sent(chat: Chat, message: Any) -> bool:
    from dumont.adapters.slack import answer as send  # late requests are rare: most starts need no client

    try:
        send(message)
    except (NotTold, NotTellable) as error:
        log.info("not sent to its URL, so answered here", extra={"chat": chat.id, "error": str(error)})
        return False
    return True


def _action(ports: Ports, settings: Settings, payload: Mapping[str, Any], signature: str) -> Answer:
    pressed = payload.get("actions")
    if payload.get("type") != "block_actions" or not isinstance(pressed, list) or not pressed:
        return OK
    first = pressed[0] if isinstance(pressed[0], dict) else {}
    chat = _chat(ports, "action", _text(payload, "trigger_id") or signature)
    chat = replace(
        chat,
        user=_text(payload, "user", "id")[:40],
        user_name=(_text(payload, "user", "username") or _text(payload, "user", "name"))[:80],
        channel=_text(payload, "channel", "id")[:40],
        action=_text(first, "action_id")[:80],
        value=_text(first, "value")[:_TEXT_MOST],
        reply_url=reply_url(settings, _text(payload, "response_url")),
    )
    if _take(ports, chat, for_worker=True):
        hint(ports, {"chat_id": chat.id})
    return OK


def _chat(ports: Ports, kind: Any, unique: str) -> Chat:
    """`unique` is the same when Slack, or somebody else, sends the same request again."""
    now = ports.clock.now()
    identifier = "slack-" + hashlib.sha256(unique.encode()).hexdigest()[:40]
    return Chat(id=identifier, kind=kind, user="", received_at=now, expires_at=now + chats.KEPT_SECONDS)


def _take(ports: Ports, chat: Chat, *, for_worker: bool) -> bool:
    """Write a request down; False for one that was here before."""

    def work(tx: Transaction) -> bool:
        if tx.get(Chat, chat.id) is not None:
            return False
        due = chat.received_at + chats.AGAIN_SECONDS if for_worker else None
        tx.put(replace(chat, done=not for_worker, deadline=due, shard=shard_of(chat.id)))
        return True

    new = ports.store.transact(work)
    if not new:
        log.info("a request of Slack's, again", extra={"chat": chat.id})
    return new


def reply_url(settings: Settings, given: str) -> str:
    """A request's own URL, if it is Slack's: what it names is posted to."""
    own = settings.slack_api_url.removesuffix("api/")
    slacks = "https://hooks.slack.com/" if own == "https://slack.com/" else own
    return given if given.startswith(slacks) and len(given) < 1000 else ""


def _form(body: bytes) -> dict[str, str]:
    try:
        read = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise InvalidInput("the body is no form", code="malformed_form") from error
    return {name: values[0] for name, values in read.items()}


def _json(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the payload is not JSON", code="malformed_json") from None
    if not isinstance(read, dict):
        raise InvalidInput("the payload is no object", code="malformed_json")
    return read


def _text(payload: Any, *path: str) -> str:
    for part in path:
        payload = payload.get(part) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) else ""


def _signature(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "x-slack-signature"), "")
