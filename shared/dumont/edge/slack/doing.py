"""What the worker does for a request: what asks a market, reads months of a ledger, or changes a machine. Through the
same operations as the HTTP functions, and answered with cards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont.adapters.shapes import ready
from dumont.domain import gpus
from dumont.domain.chats import Chat
from dumont.domain.errors import Conflict, InvalidInput, UserError
from dumont.domain.offers import OfferQuery
from dumont.domain.records import Machine, Operation
from dumont.edge import requests
from dumont.edge.http import invalid
from dumont.edge.slack import blocks as b
from dumont.edge.slack import cards, looking, money, proof
from dumont.edge.slack.answers import Answered, audit, card, refused, said
from dumont.edge.slack.blocks import escaped
from dumont.edge.slack.words import Unclear, Wish, parse
from dumont.operations import (
    budget_settings,
    destroy,
    drills,
    failover,
    hibernate,
    idle,
    look,
    provision,
    snapshot,
    spending,
    wake,
)
from dumont.ports import Ports
from dumont.settings import Settings

_LOOKS = ("machine.show", "machine.refresh")


def run(ports: Ports, settings: Settings, chat: Chat) -> Answered:
    """Do what a request asks for, and say what came of it. What its user can mend is said, and not raised."""
    if chat.kind == "action":
        return _pressed(ports, settings, chat)
    wish = parse(chat.text)
    known = looking.at_once(ports, settings, chat.user, wish)
    if known is not None or isinstance(wish, Unclear):
        return known or said("", [])
    try:
        if wish.verb in _READS:
            return _READS[wish.verb](ports, wish)
        answered = _begun_before(ports, chat, {"m": wish.name}) or _CHANGES[wish.verb](ports, chat, wish)
    except UserError as error:
        answered = refused(error)
    if wish.verb in _CHANGES:
        audit(ports, chat, f"/dumont {wish.verb}", wish.name, answered)
    return answered


def _pressed(ports: Ports, settings: Settings, chat: Chat) -> Answered:
    held: dict[str, Any] = {}
    try:
        held = _held(chat.value)
        answered = _begun_before(ports, chat, held) or _act(ports, settings, chat)
    except UserError as error:
        answered = refused(error)
    if chat.action not in _LOOKS:
        audit(ports, chat, f"button {chat.action}", str(held.get("m") or held.get("name") or ""), answered)
    return answered


# --- Reading ----------------------------------------------------------------------------------------------------------


def _search(ports: Ports, wish: Wish) -> Answered:
    fields = _with_known_gpu(wish.fields)
    found = look.search(ports, _as(OfferQuery, fields | {"limit": cards.OFFERS_MOST}))
    names = [_free_name(ports, ranked.offer.gpu) for ranked in found.offers]
    return said(f"{found.count} offers", cards.offers(found, names))


def _free_name(ports: Ports, gpu: str) -> str:
    """A name for what a button would rent: it is made with the button, so that pressing twice rents once."""
    stem = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")[:24]
    stem = stem if stem[:1].isalpha() else f"gpu-{stem}"
    return f"{stem}-{ports.ids.random_bytes(2).hex()}".replace("--", "-")


def _cost(ports: Ports, wish: Wish) -> Answered:
    machine = wish.name or None
    found = spending.costs(ports, machine=machine, from_time=None, to_time=None, by="machine", zone="UTC")
    return said(f"${found.total.usd:.2f} spent", money.costs(found, wish.name))


def _savings(ports: Ports, wish: Wish) -> Answered:
    found = spending.saved(ports, machine=wish.name or None, from_time=None, to_time=None)
    return said("What was saved", money.savings(found, wish.name))


def _budget(ports: Ports, wish: Wish) -> Answered:
    del wish
    return said("The budgets", money.budgets(budget_settings.every(ports)))


# --- Changing --------------------------------------------------------------------------------------------------------


def _up(ports: Ports, chat: Chat, wish: Wish) -> Answered:
    return _rent(ports, chat, {"name": wish.name, **_with_known_gpu(wish.fields)})


def _rent(ports: Ports, chat: Chat, fields: dict[str, Any]) -> Answered:
    name, spec = requests.machine_of(fields)
    machine, op = provision.request(ports, name, spec, requested_by=chat.caller, request_id=chat.id)
    default = budget_settings.default_limit(ports)
    small = f"all machines together may spend ${default:.2f} a day, then they sleep" if default is not None else ""
    note = f"{_who(chat)} rents *{escaped(name)}*: offers race, the first that proves itself stays. I tell you when."
    blocks = cards.machine(look.machine(ports, machine.id), note)
    answered = said(f"{name} is on its way", [*blocks, *([b.context(small)] if small else [])], to_all=True)
    return replace(answered, status=202, made=op.id)


def _snapshot(ports: Ports, chat: Chat, wish: Wish) -> Answered:
    op = snapshot.request_snapshot(ports, wish.name, requested_by=chat.caller, request_id=chat.id)
    return _begun(ports, chat, op, "saves")


def _hibernate(ports: Ports, chat: Chat, wish: Wish) -> Answered:
    tier = "pause" if wish.fields.get("pause") else "hibernate"
    op = hibernate.request(ports, wish.name, tier=tier, requested_by=chat.caller, request_id=chat.id)
    return _begun(ports, chat, op, "puts to sleep")


def _wake(ports: Ports, chat: Chat, wish: Wish) -> Answered:
    op = wake.request(ports, wish.name, requested_by=chat.caller, request_id=chat.id)
    if op is None:
        return card(ports, wish.name, f"*{escaped(wish.name)}* is awake.")
    return _begun(ports, chat, op, "wakes")


def _keep(ports: Ports, chat: Chat, wish: Wish) -> Answered:
    seconds = float(wish.fields["seconds"])
    limit = requests.KeepAwakeRequest
    kept = idle.keep(ports, wish.name, seconds=_as(limit, {"seconds": seconds}).seconds)
    how = "may sleep by itself again" if not seconds else "stays awake"
    return card(ports, kept.id, f"{_who(chat)}: *{escaped(kept.id)}* {how}.", to_all=True)


_READS: dict[str, Callable[[Ports, Wish], Answered]] = {
    "search": _search,
    "cost": _cost,
    "savings": _savings,
    "budget": _budget,
}
_CHANGES: dict[str, Callable[[Ports, Chat, Wish], Answered]] = {
    "up": _up,
    "snapshot": _snapshot,
    "hibernate": _hibernate,
    "wake": _wake,
    "keep": _keep,
}


# --- Buttons ------------------------------------------------------------------------------------------------------


def _act(ports: Ports, settings: Settings, chat: Chat) -> Answered:
    """A button. One of a card that is old does nothing to what has come since: the epoch that it showed must hold, in
    the transaction that would destroy too."""
    held = _held(chat.value)
    if chat.action == "offer.rent":
        proof.authorise(settings, chat.user)
        return _rent(ports, chat, held)
    name, epoch = str(held.get("m", "")), held.get("e")
    if chat.action in _LOOKS:
        return card(ports, name)
    proof.authorise(settings, chat.user)
    record = look.route(ports, name)
    if record.epoch != epoch:
        return _stale(ports, record, epoch)
    match chat.action:
        case "machine.wake":
            return _wake(ports, chat, Wish(verb="wake", name=name))
        case "machine.sleep":
            return _hibernate(ports, chat, Wish(verb="hibernate", name=name))
        case "machine.keep":
            return _keep(ports, chat, Wish(verb="keep", name=name, fields={"seconds": float(cards.KEEP_SECONDS)}))
        case "machine.snapshot":
            return _snapshot(ports, chat, Wish(verb="snapshot", name=name))
        case "machine.move" | "machine.move_lost":
            lost = chat.action == "machine.move_lost"
            op = failover.request(ports, name, discard=lost, requested_by=chat.caller, request_id=chat.id)
            return _begun(ports, chat, op, "moves")
        case "machine.drill":
            op = drills.request(ports, name, requested_by=chat.caller, request_id=chat.id)
            return _begun(ports, chat, op, "rehearses a failover of")
        case "machine.destroy" | "machine.destroy_saved" | "machine.destroy_lost":
            return _destroy(ports, chat, record)
    raise InvalidInput(
        "this button is of another version of Dumont", hint="ask for the card again: /dumont status NAME"
    )


def _destroy(ports: Ports, chat: Chat, record: Machine) -> Answered:
    try:
        _, op = destroy.request(
            ports,
            record.id,
            discard=chat.action == "machine.destroy_lost",
            snapshot_first=chat.action == "machine.destroy_saved",
            requested_by=chat.caller,
            request_id=chat.id,
            epoch=record.epoch,
        )
    except Conflict as error:
        if error.code != "moved_on":
            raise
        return _stale(ports, look.route(ports, record.id), record.epoch)
    return _begun(ports, chat, op, "destroys")


def _stale(ports: Ports, record: Machine, epoch: object) -> Answered:
    note = (
        f"⚠️ That card was old: it showed epoch {escaped(epoch, 20)} of *{escaped(record.id)}*, which is at "
        f"{record.epoch} now. Nothing was done; this is how it is."
    )
    return replace(card(ports, record.id, note), status=409, code="moved_on")


def _held(value: str) -> dict[str, Any]:
    try:
        held = json.loads(value)
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        raise InvalidInput("this button is not one of Dumont's")
    return held


# --- What they share ----------------------------------------------------------------------------------------------


def _begun(ports: Ports, chat: Chat, op: Operation, does: str) -> Answered:
    if op.request_id != chat.id:
        note = f"*{escaped(op.machine)}* is at it already: {escaped(op.requested_by)} wanted it."
        return card(ports, op.machine, note)
    note = f"{_who(chat)} {does} *{escaped(op.machine)}*. I tell you when it is done."
    return replace(card(ports, op.machine, note, to_all=True), status=202, made=op.id)


def _begun_before(ports: Ports, chat: Chat, held: dict[str, Any]) -> Answered | None:
    """Where this same request has begun its operation, and died before it was answered: it is not begun again."""
    machine = ports.store.get(Machine, str(held.get("m") or held.get("name") or "-")[:100])
    op = ports.store.get(Operation, machine.operation_id) if machine is not None and machine.operation_id else None
    if op is None or op.request_id != chat.id:
        return None
    return card(
        ports, op.machine, f"{_who(chat)}: a {op.kind.value} of *{escaped(op.machine)}* is under way.", to_all=True
    )


def _who(chat: Chat) -> str:
    return f"<@{chat.user}>"


def _with_known_gpu(fields: dict[str, Any]) -> dict[str, Any]:
    """ "4090" and "a6000" are what people say of an RTX."""
    gpu = fields.get("gpu")
    if not isinstance(gpu, str) or gpus.is_known(gpu):
        return fields
    longer = [f"{prefix} {gpu}" for prefix in ("RTX", "GTX", "Tesla") if gpus.is_known(f"{prefix} {gpu}")]
    return fields | {"gpu": longer[0]} if longer else fields


def _as(shape: Any, fields: dict[str, Any]) -> Any:
    try:
        return msgspec.convert(fields, ready(shape))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
