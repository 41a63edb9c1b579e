"""What the door answers at once: it only reads, and asks nobody but the store."""

from __future__ import annotations

from collections.abc import Callable

from dumont.domain.errors import Conflict, UserError
from dumont.edge.slack import blocks as b
from dumont.edge.slack import cards, proof
from dumont.edge.slack.answers import Answered, card, refused, said
from dumont.edge.slack.blocks import code, escaped
from dumont.edge.slack.words import VERBS, Unclear, Wish
from dumont.operations import look
from dumont.ports import Ports
from dumont.settings import Settings


def at_once(ports: Ports, settings: Settings, user: str, wish: Wish | Unclear) -> Answered | None:
    """The answer to a command; None where it is the worker's. Who may not is told so at once."""
    try:
        if isinstance(wish, Unclear):
            return said(wish.why, cards.unclear(wish))
        if VERBS[wish.verb].changes:
            proof.authorise(settings, user)
        if wish.verb == "help":
            return said("What Dumont does for you here", cards.help_for(str(wish.fields.get("verb", ""))))
        look_up = _QUICK.get(wish.verb)
        return look_up(ports, wish) if look_up is not None else None
    except UserError as error:
        return refused(error)


def _ls(ports: Ports, wish: Wish) -> Answered:
    found = look.machines(ports, destroyed_too=bool(wish.fields.get("all")))
    return said(f"{len(found)} machines", cards.machines(found))


def _status(ports: Ports, wish: Wish) -> Answered:
    return card(ports, wish.name) if wish.name else _ls(ports, wish)


def _ssh(ports: Ports, wish: Wish) -> Answered:
    record = look.route(ports, wish.name)
    if record.ssh is None:
        raise Conflict(f"{record.id} is {record.state.value.replace('_', ' ')}: there is nowhere to log in")
    ssh = record.ssh
    lines = [
        f"{code(f'dumont ssh {record.id}')} gets you in, wherever it is, its host key checked.",
        f"Without Dumont: {code(f'ssh -p {ssh.port} {ssh.user}@{ssh.host}')}",
    ]
    keys = "" if record.spec.ssh_public_keys else " · it knows no key of yours: give one with `up … --ssh-key`"
    small = b.context(f"host key {code(record.host_key or '–', 200)}{keys}")
    return said(f"dumont ssh {record.id}", [b.section("\n".join(lines)), small])


def _failover(ports: Ports, wish: Wish) -> Answered:
    record, flags = look.route(ports, wish.name), wish.fields
    asked = cards.ask_failover(record, drill=bool(flags.get("drill")), discard=bool(flags.get("discard")))
    return said(f"Move {record.id}?", asked)


def _down(ports: Ports, wish: Wish) -> Answered:
    """Asked before anything is done, whatever was typed: a phone's keyboard guesses names."""
    seen = look.machine(ports, wish.name)
    if seen.machine.state in cards.ENDED:
        return card(ports, wish.name)
    note = f"Destroy *{escaped(wish.name)}*, {cards.state(seen.machine)}, ${seen.cost.total_usd:.2f} so far?"
    return said(f"Destroy {wish.name}?", cards.ways_down(seen.machine, note=note))


_QUICK: dict[str, Callable[[Ports, Wish], Answered]] = {
    "ls": _ls,
    "status": _status,
    "ssh": _ssh,
    "failover": _failover,
    "down": _down,
}
