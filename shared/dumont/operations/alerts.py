"""Telling: what was written down to be told goes to the chat, once, by a worker of its own.

An operation writes an alert with whatever it is about, and publishes a hint; it never waits for the chat, and a chat
that is down harms nothing. The teller takes a lease, sends, and notes what it has sent. If it dies between the two,
the message is looked for before it is sent again; where it cannot be looked for, it is told twice rather than never.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from dumont import queries
from dumont.domain import alerts as domain
from dumont.domain.alerts import Alert, Told
from dumont.domain.chats import AGAIN_SECONDS, Chat
from dumont.domain.errors import BusUnavailable, NotTellable, NotTold, StoreError
from dumont.domain.happenings import of_alert
from dumont.domain.messages import Message
from dumont.domain.records import Schedule
from dumont.domain.subscriptions import Delivery
from dumont.operations import subscribers
from dumont.operations.schedules import note_run
from dumont.optional_ports import Notifier
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

TOPIC = "dumont-slack"
LEASE_SECONDS = 60.0
FIRST_RETRY_SECONDS = 5.0
MOST_RETRY_SECONDS = 900.0
RESEND_SECONDS = 60.0
WAIT_SECONDS = 8.0
WAITS_MOST = 2
DIGEST = "digest"

Compose = Callable[[Alert], Message | None]


class _TakenOver(Exception):
    """Another tells it since our lease ran out: what is to be noted of it is that one's to note."""


# --- Writing down -------------------------------------------------------------------------------------------------


def publish(ports: Ports, alerts: Iterable[Alert]) -> None:
    """Hint at alerts that were committed; a lost hint is made good by the sweep's slow look."""
    for alert in alerts:
        hint(ports, {"alert_id": alert.id})


def hint(ports: Ports, message: dict[str, str]) -> bool:
    """Have the worker look at something. False if it was not sent."""
    try:
        ports.bus.publish(TOPIC, message)
    except BusUnavailable as error:
        log.info("not published; the sweep will find it", extra={"about": message, "error": str(error)})
        return False
    return True


def write(ports: Ports, alert: Alert | None) -> None:
    """Write down what is told once and never changes, unless it is there already."""
    if alert is None or not (ports.alerts or ports.subscriptions):
        return

    def work(tx: Transaction) -> tuple[list[Alert], list[Delivery]]:
        news = [alert] if ports.alerts and tx.get(Alert, alert.id) is None else []
        for new in news:
            tx.put(new)
        return news, subscribers.write(ports, tx, of_alert(alert))

    news, deliveries = ports.store.transact(work)
    publish(ports, news)
    subscribers.publish(ports, deliveries)


def look(ports: Ports) -> int:
    """A part of the sweep's slow look: hand out again what was written down and not told, and begin the day's digest.
    Answers with how much was handed out."""
    if not ports.alerts:
        return 0
    now = ports.clock.now()
    digest = ports.store.get(Schedule, DIGEST) or Schedule(id=DIGEST)
    due = domain.digest_of(now, digest.last_run_at)
    if due is not None:
        write(ports, due)
        note_run(ports, DIGEST, now)
    handed = 0
    for alert in ports.store.find(Alert, queries.due(now)):
        handed += ports.store.transact(lambda tx, i=alert.id: _put_off(tx, i, now)) and hint(  # type: ignore[misc]
            ports, {"alert_id": alert.id}
        )
    for chat in ports.store.find(Chat, queries.due(now)):
        if ports.store.transact(lambda tx, i=chat.id: _put_off_chat(tx, i, now)):  # type: ignore[misc]
            handed += hint(ports, {"chat_id": chat.id})
    return handed


def _put_off(tx: Transaction, alert_id: str, now: float) -> bool:
    alert = tx.get(Alert, alert_id)
    if alert is None or alert.deadline is None or alert.deadline > now:
        return False
    tx.put(replace(alert, deadline=now + RESEND_SECONDS))
    return True


def _put_off_chat(tx: Transaction, chat_id: str, now: float) -> bool:
    chat = tx.get(Chat, chat_id)
    if chat is None or chat.done or chat.deadline is None or chat.deadline > now:
        return False
    if chat.tries >= 5:  # whoever asked has long asked again, or given up
        tx.put(replace(chat, deadline=None))
        return False
    tx.put(replace(chat, deadline=now + AGAIN_SECONDS, tries=chat.tries + 1))
    return True


# --- Telling ------------------------------------------------------------------------------------------------------


def tell(ports: Ports, notifier: Notifier, compose: Compose, alert_id: str) -> bool:
    """Tell an alert as it is now; again if it is written again meanwhile. False where there was nothing to do, another
    is at it, or it was put off. Raises `StoreError`: then the message that called us comes again."""
    owner = ports.ids.new("tell")
    alert = ports.store.get(Alert, alert_id)
    if alert is None or alert.deadline is None:
        return False
    before = _claim(ports, alert_id, owner)
    if before is None:
        return False
    told: Told | None = before
    waits = 0
    try:
        while told is not None and alert is not None:
            message = compose(alert)
            try:
                sent = _send(ports, notifier, alert, told, message) if message is not None else told
            except NotTold as error:
                # "Too many, wait so long": a short wait is made on the spot, since the sweep looks once a minute.
                waits += 1
                if error.may_be_there or not 0 < error.retry_after_seconds <= WAIT_SECONDS or waits > WAITS_MOST:
                    raise
                ports.clock.sleep(error.retry_after_seconds)
            else:
                alert, told = _settle(ports, alert, sent)
    except _TakenOver:
        log.info("an alert is another's to tell by now", extra={"alert": alert_id})
        return False
    except NotTold as error:
        _later(ports, alert_id, owner, error)
        return False
    except NotTellable as error:
        log.warning("an alert is refused by the chat", extra={"alert": alert_id, "error": str(error)})
        _give_up(ports, alert_id, owner)
        return False
    return True


def _claim(ports: Ports, alert_id: str, owner: str) -> Told | None:
    def work(tx: Transaction) -> Told | None:
        now = ports.clock.now()
        told = tx.get(Told, alert_id) or Told(id=alert_id, first_tried_at=now, expires_at=now + domain.KEPT_SECONDS)
        if told.lease_owner not in (None, owner) and told.lease_until > now:
            return None
        mine = replace(told, lease_owner=owner, lease_until=now + LEASE_SECONDS)
        tx.put(mine)
        return mine

    return ports.store.transact(work)


def _send(ports: Ports, notifier: Notifier, alert: Alert, told: Told, message: Message) -> Told:
    """Bring the chat in step with the alert, and say how it stands."""
    if told.reference and message.digest == told.digest:
        return told
    if told.reference and not notifier.edits and not message.final:
        return told
    if told.reference and notifier.edits:
        try:
            notifier.edit(told.reference, message)
        except NotTellable as error:  # it was deleted, or is too old to be edited: a new one says it
            log.info("not edited, told anew", extra={"alert": alert.id, "error": str(error)})
        else:
            return replace(told, digest=message.digest)
    reference = notifier.find(alert.id, told.first_tried_at - 60.0) if told.sending and not told.reference else None
    if reference is not None:
        return _send(ports, notifier, alert, replace(told, reference=reference, sending=False, digest=0), message)
    sending = _note(ports, replace(told, sending=True))
    try:
        reference = notifier.post(message, key=alert.id)
    except NotTold as error:
        if not error.may_be_there:
            _note(ports, replace(sending, sending=False))
        raise
    return replace(sending, reference=reference, sending=False, digest=message.digest, tries=0)


def _note(ports: Ports, told: Told) -> Told:
    """Write down that a message is being sent: whoever comes after our death looks for it first."""

    def work(tx: Transaction) -> Told:
        return _hold(ports, tx, told)

    return ports.store.transact(work)


def _hold(ports: Ports, tx: Transaction, told: Told) -> Told:
    """Write down what was told, and hold its lease for longer. Raises `_TakenOver`."""
    if _mine(tx, told.id, told.lease_owner) is None:
        raise _TakenOver
    held = replace(told, lease_until=ports.clock.now() + LEASE_SECONDS)
    tx.put(held)
    return held


def _mine(tx: Transaction, alert_id: str, owner: str | None) -> Told | None:
    """What was told as it is written down, while that is its owner's. Without this look one that was held up would end
    the lease of whoever tells it by now, and a third would tell it again."""
    told = tx.get(Told, alert_id)
    return told if told is not None and told.lease_owner == owner else None


def _settle(ports: Ports, alert: Alert, told: Told) -> tuple[Alert | None, Told | None]:
    """Note what was told. An alert that was written again meanwhile is handed back, to be told as it is now. Raises
    `_TakenOver`."""

    def work(tx: Transaction) -> tuple[Alert | None, Told | None]:
        fresh = tx.get(Alert, alert.id)
        held = _hold(ports, tx, told)
        if fresh is not None and fresh.written_at != alert.written_at:
            return fresh, held
        tx.put(replace(held, lease_owner=None, lease_until=0.0))
        if fresh is not None:
            tx.put(replace(fresh, deadline=None))
        return None, None

    return ports.store.transact(work)


def _later(ports: Ports, alert_id: str, owner: str, error: NotTold) -> None:
    """It is tried again when the chat said, or ever more seldom; after a day no more."""

    def work(tx: Transaction) -> bool:
        now = ports.clock.now()
        told, alert = _mine(tx, alert_id, owner), tx.get(Alert, alert_id)
        if told is None or alert is None:
            return False
        wait = min(FIRST_RETRY_SECONDS * 2.0**told.tries, MOST_RETRY_SECONDS)
        again_at = now + max(wait, error.retry_after_seconds)
        late = again_at > told.first_tried_at + domain.GIVE_UP_SECONDS
        tx.put(replace(told, lease_owner=None, lease_until=0.0, tries=told.tries + 1))
        tx.put(replace(alert, deadline=None if late else again_at))
        return not late

    again = ports.store.transact(work)
    log.warning("an alert was not told", extra={"alert": alert_id, "error": str(error), "again": again})


def _give_up(ports: Ports, alert_id: str, owner: str) -> None:
    def work(tx: Transaction) -> None:
        told, alert = _mine(tx, alert_id, owner), tx.get(Alert, alert_id)
        if told is None:
            return
        tx.put(replace(told, lease_owner=None, lease_until=0.0, sending=False))
        if alert is not None:
            tx.put(replace(alert, deadline=None))

    try:
        ports.store.transact(work)
    except StoreError as error:
        log.info("not noted; it is refused again", extra={"alert": alert_id, "error": str(error)})
