"""The worker behind `dumont-slack`: does what was asked for in Slack, and tells what is to be told."""

from __future__ import annotations

import logging
import re
from typing import Any

from msgspec.structs import replace

from dumont.domain.alerts import Alert, AlertKind
from dumont.domain.chats import LEASE_SECONDS, Chat
from dumont.domain.errors import NotTellable, NotTold
from dumont.edge import events, logs, wiring
from dumont.edge.slack import doing, stories
from dumont.edge.slack.answers import refused
from dumont.operations import alerts
from dumont.optional_ports import Notifier
from dumont.ports import Ports, Transaction
from dumont.settings import Settings

log = logging.getLogger(__name__)

_ID = re.compile(r"^[A-Za-z0-9._:-]{3,200}$")


def work(event: Any) -> None:
    """Take what an event names as far as it goes. What cannot be read is spent; an error propagates, so that the bus
    delivers again, and the sweep stands behind it."""
    events.check_caller()
    settings = wiring.settings()
    logs.set_up(settings.log_level)
    payload = events.payload_of(event.data)
    alert_id, chat_id = _identifier(payload.get("alert_id")), _identifier(payload.get("chat_id"))
    token = logs.request_id.set(alert_id or chat_id)
    try:
        if alert_id:
            tell(wiring.ports(), alert_id)
        elif chat_id:
            reply(wiring.ports(), settings, wiring.chat(), chat_id)
        else:
            log.error("message not understood", extra={"event": str(event.get("id", ""))[:64]})
    except Exception:
        log.exception("work failed", extra={"alert": alert_id, "chat": chat_id})
        raise
    finally:
        logs.request_id.reset(token)


def tell(ports: Ports, alert_id: str) -> bool:
    """Tell one alert. Answers go to Slack, whoever is told the rest."""
    alert = ports.store.get(Alert, alert_id)
    if alert is None:
        return False
    notifier = wiring.chat() if alert.kind is AlertKind.REPLY else wiring.notifier()
    return alerts.tell(ports, notifier, lambda fresh: stories.compose(ports, fresh), alert_id)


def reply(ports: Ports, settings: Settings, notifier: Notifier, chat_id: str) -> bool:
    """Do what a request asks for and answer it; False where that was done, or is being done."""

    def claim(tx: Transaction) -> Chat | None:
        now = ports.clock.now()
        chat = tx.get(Chat, chat_id)
        if chat is None or chat.done or chat.lease_until > now:
            return None
        held = replace(chat, lease_until=now + LEASE_SECONDS)
        tx.put(held)
        return held

    chat = ports.store.transact(claim)
    if chat is None:
        return False
    try:
        answered = doing.run(ports, settings, chat)
    except Exception as error:  # whoever asked is told; the log has the rest
        log.exception("work failed", extra={"chat": chat.id})
        answered = refused(error)
    # Done before it is answered: an answer that is lost is better than a wish that is carried out twice.
    ports.store.transact(
        lambda tx: tx.put(replace(tx.get(Chat, chat_id) or chat, done=True, lease_until=0.0, deadline=None))
    )
    try:
        notifier.post(answered.message(chat), key=chat.id)
    except (NotTold, NotTellable) as error:
        log.warning("a request was done, and not answered", extra={"chat": chat.id, "error": str(error)})
    return True


def _identifier(given: object) -> str:
    return given if isinstance(given, str) and _ID.fullmatch(given) else ""
