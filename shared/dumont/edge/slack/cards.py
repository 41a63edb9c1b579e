"""Answers: a machine's card, lists, offers, errors. From what `operations.look` has seen to blocks. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from dumont.domain.records import Instance, Machine, MachineState, Problem
from dumont.edge.problems import ProblemDocument
from dumont.edge.slack import blocks as b
from dumont.edge.slack.blocks import Block, code, escaped
from dumont.edge.slack.figures import duration, gpus, per_hour, usd
from dumont.edge.slack.words import VERBS, Unclear, option_of
from dumont.operations.look import MachineSeen, Offers

_SIGNS = {
    MachineState.RUNNING: "🟢", MachineState.HIBERNATED: "🌙", MachineState.HIBERNATING: "🌘",
    MachineState.FAILED: "🔴", MachineState.DESTROYED: "⚫", MachineState.DESTROYING: "⏳",
}  # fmt: skip
ENDED = (MachineState.DESTROYING, MachineState.DESTROYED)
SHOWN_MOST = 20
OFFERS_MOST = 5
KEEP_SECONDS = 7200
_COMMAND = re.compile(r"`dumont ([a-z-]+)")


def state(machine: Machine) -> str:
    """ "🟢 running"."""
    return f"{_SIGNS.get(machine.state, '🟡')} {machine.state.value.replace('_', ' ')}"


def value(machine: Machine) -> str:
    """What a machine's buttons carry: its name, and the epoch that the card showed."""
    return json.dumps({"m": machine.id, "e": machine.epoch})


def machine(seen: MachineSeen, note: str = "") -> list[Block]:
    """A machine's card, with what can be done to it now. `note`: escaped words above it."""
    record, current = seen.machine, seen.current
    offer = current.offer if current is not None else None
    what = [gpus(offer or record.spec), escaped(offer.region, 60) if offer is not None and offer.region else ""]
    price = per_hour(current.offer.total_usd_per_hour(current.disk_gb)) if current is not None else ""
    lines = [f"*{escaped(record.id)}*  {state(record)}", " · ".join(part for part in (*what, price) if part)]
    money = f"{usd(seen.cost.total_usd)} so far"
    if record.state is MachineState.RUNNING and record.running_since is not None:
        money += f" · runs for {duration(seen.now - record.running_since)}"
    lines.append(money)
    if record.failure is not None:
        lines += problem(record.failure)
    shown = [b.section(note)] if note else []
    return [*shown, b.section("\n".join(lines)), *_small_print(seen), *b.actions(_buttons(record))]


def _small_print(seen: MachineSeen) -> list[Block]:
    record, parts = seen.machine, [f"epoch {seen.machine.epoch}"]
    if seen.heartbeat is not None and record.state is MachineState.RUNNING:
        parts.append(f"heard {duration(seen.now - seen.heartbeat.received_at)} ago")
    if record.keep_until > seen.now:
        parts.append(f"kept awake for {duration(record.keep_until - seen.now)}")
    elif record.spec.idle_after_minutes is not None and record.state is MachineState.RUNNING:
        parts.append(f"sleeps after {duration(record.spec.idle_after_minutes * 60)} unused")
    if record.spec.budget_usd is not None:
        parts.append(f"cap {usd(record.spec.budget_usd)}: reaching it destroys it")
    if seen.spare is not None:
        parts.append("has a spare")
    return [b.context(" · ".join(parts))]


def _buttons(record: Machine) -> list[Block]:
    if record.state in ENDED:
        return []
    held = value(record)
    found: list[Block] = []
    if record.state is MachineState.HIBERNATED:
        found.append(b.button("Wake", "machine.wake", held, style="primary"))
    if record.state is MachineState.RUNNING:
        found.append(b.button("Sleep", "machine.sleep", held))
        found.append(b.button("Keep 2 h", "machine.keep", held))
        found.append(b.button("Snapshot", "machine.snapshot", held))
    found.append(b.button("Refresh", "machine.refresh", held))
    found.append(destroy_button(record))
    return found


def destroy_button(record: Machine) -> Block:
    """Destroy, if nothing would be lost: as `dumont down` without an option."""
    text = f"{record.id} is destroyed if each of its files is saved; else it stays, and you are asked again."
    asked = b.confirm(f"Destroy {record.id}?", text, "Destroy", danger=True)
    return b.button("Destroy", "machine.destroy", value(record), style="danger", confirm=asked)


def ways_down(record: Machine, *, note: str) -> list[Block]:
    """The question before a machine goes, and each way to answer it."""
    held = value(record)
    lost = b.confirm(
        f"Lose the files of {record.id}?", "What its workspace holds and no snapshot has is lost.", "Lose them",
        danger=True,
    )  # fmt: skip
    saved = b.confirm(
        f"Save and destroy {record.id}?", "A snapshot is taken and verified, then it goes.", "Save, then go"
    )
    return [
        b.section(note),
        *b.actions(
            [
                destroy_button(record),
                b.button("Save first", "machine.destroy_saved", held, confirm=saved),
                b.button("Lose its files", "machine.destroy_lost", held, style="danger", confirm=lost),
                b.button("Leave it", "machine.refresh", held),
            ]
        ),
    ]


def ask_failover(record: Machine, *, drill: bool, discard: bool) -> list[Block]:
    """The question before a machine is moved."""
    if drill:
        asked = b.confirm(
            "Rehearse?", "Other hosts race and restore its last snapshot, and bill meanwhile.", "Rehearse"
        )
        text = f"Rehearse a failover of *{escaped(record.id)}*? It runs on, untouched."
        action = "machine.drill"
    else:
        how = "Nothing is saved first." if discard else "It is saved first, stops, and starts on another host."
        asked = b.confirm(f"Move {record.id}?", how, "Move it", danger=discard)
        text = f"Move *{escaped(record.id)}* to another host? {how}"
        action = "machine.move_lost" if discard else "machine.move"
    yes = b.button("Rehearse" if drill else "Move", action, value(record), style="danger" if discard else "primary",
                   confirm=asked)  # fmt: skip
    return [b.section(text), *b.actions([yes, b.button("Leave it", "machine.refresh", value(record))])]


def machines(found: Sequence[MachineSeen]) -> list[Block]:
    """A line each, what runs first; each with a button that shows its card."""
    if not found:
        return [b.section("No machines. `/dumont search RTX 4090` finds offers, `/dumont up NAME --gpu …` rents one.")]
    order = sorted(found, key=lambda seen: (seen.machine.state is not MachineState.RUNNING, seen.machine.id))
    shown: list[Block] = []
    for seen in order[:SHOWN_MOST]:
        record, current = seen.machine, seen.current
        rate = per_hour(current.offer.total_usd_per_hour(current.disk_gb)) if current is not None else ""
        thing = gpus(current.offer if current is not None else record.spec)
        line = " · ".join(part for part in (thing, rate, f"{usd(seen.cost.total_usd)} so far") if part)
        more = b.button("Show", "machine.show", value(record))
        shown.append(b.section(f"*{escaped(record.id)}*  {state(record)}\n{line}", button=more))
    billing = sum(_rate(s.current) for s in found)
    more_words = f" · {len(order) - SHOWN_MOST} more: `dumont ls`" if len(order) > SHOWN_MOST else ""
    return [*shown, b.context(f"{len(found)} in all, {per_hour(billing)} now{more_words}")]


def _rate(current: Instance | None) -> float:
    return current.offer.total_usd_per_hour(current.disk_gb) if current is not None and current.open else 0.0


def offers(found: Offers, names: Sequence[str]) -> list[Block]:
    """The best offers, each with a button that rents such a one; `names`: a machine's name for each of those."""
    if not found.offers:
        return [b.section("No offer passes these filters. Loosen one: `--max-price`, `--region`, `--unverified`.")]
    shown: list[Block] = []
    for ranked, name in zip(found.offers[:OFFERS_MOST], names, strict=False):
        offer = ranked.offer
        share = f"{offer.reliability * 100:.1f} % reliable" if offer.reliability is not None else ""
        link = f"{offer.download_mbps:,.0f} Mbit/s" if offer.download_mbps is not None else ""
        memory = f"{offer.vram_gib:.0f} GiB" if offer.vram_gib is not None else ""
        bid = "bid, can be lost" if offer.interruptible else ""
        small = " · ".join(part for part in (memory, escaped(offer.region or "", 60), share, link, bid) if part)
        text = f"*{gpus(offer)}*  {per_hour(ranked.price_usd_per_hour)}\n{small}"
        shown.append(b.section(text, button=_rent(found, ranked.price_usd_per_hour, offer.gpu, name)))
    note = f"{min(len(found.offers), OFFERS_MOST)} of {found.count}, by what they cost to finish a job"
    silent = f" · no answer from {escaped(', '.join(found.unanswered))}" if found.unanswered else ""
    return [*shown, b.context(note + silent)]


def _rent(found: Offers, price: float, gpu: str, name: str) -> Block:
    """Offers come and go, so what is rented is the best then that costs no more than this one does now."""
    query = found.query
    most = round(price * 1.0005 + 5e-4, 3)
    wish = {
        "name": name, "gpu": gpu[:60], "gpu_count": query.gpu_count, "max_price_usd_per_hour": most,
        "disk_gb": query.disk_gb, "interruptible": query.interruptible, "verified_only": query.verified_only,
        "min_vram_gib": query.min_vram_gib, "min_reliability": query.min_reliability, "region": query.region,
        "min_download_mbps": query.min_download_mbps, "min_cuda": query.min_cuda,
    }  # fmt: skip
    held = json.dumps(
        {key: given for key, given in wish.items() if given not in (None, False) or key == "verified_only"}
    )
    text = f"The best {gpu[:60]} then, for at most {usd(most, 3)} an hour, as “{name}”."
    asked = b.confirm("Rent?", f"{text} It bills until it sleeps or is destroyed.", "Rent")
    return b.button("Rent", "offer.rent", held, style="primary", confirm=asked)


# --- Words --------------------------------------------------------------------------------------------------------


def problem(found: Problem) -> list[str]:
    """Why something ended badly, what is safe, what to do; escaped lines."""
    lines = [f"⚠️ {escaped(found.detail, 600)}"]
    lines += [f"_{escaped(found.safe, 300)}_"] if found.safe else []
    return lines + ([f"→ {said(found.hint)}"] if found.hint else [])


def said(hint: str) -> str:
    """A hint, escaped, with the commands that Slack has too as Slack has them."""
    return _COMMAND.sub(lambda m: f"`/dumont {m[1]}" if m[1] in VERBS else m[0], escaped(hint, 600))


def refused(document: ProblemDocument) -> list[Block]:
    """An error, in the words that the API has for it."""
    small = f"{document.code} · {document.request_id}" if document.status >= 500 else document.code
    where = f"{code(option_of(document.field))}: " if document.field and document.field != "name" else ""
    lines = [f"⚠️ {where}{escaped(document.detail[:1].upper() + document.detail[1:], 800)}"]
    lines += [f"→ {said(document.hint)}"] if document.hint else []
    return [b.section("\n".join(lines)), b.context(escaped(small))]


def unclear(found: Unclear) -> list[Block]:
    """A command that was not understood, and how it would be right."""
    lines = [f"🤔 {escaped(found.why[:1].upper() + found.why[1:], 400)}"]
    if found.meant:
        lines.append("Did you mean " + " or ".join(code(text, 200) for text in found.meant) + "?")
    if found.verb:
        lines.append(f"Usage: {code('/dumont ' + VERBS[found.verb].usage)}")
    lines.append(f"For example: {code(found.example)}")
    return [b.section("\n".join(lines))]


def help_for(verb: str) -> list[Block]:
    """One command, or all."""
    if verb:
        known = VERBS[verb]
        options = " ".join(code(f"--{name}") for name in known.options)
        lines = [f"*{verb}*: {known.what}", code(f"/dumont {known.usage}"), f"For example: {code(known.example)}"]
        return [b.section("\n".join(lines)), *([b.context(f"Options: {options}")] if options else [])]
    lines = [f"{code('/dumont ' + known.usage.split(' [')[0])}  {known.what}" for known in VERBS.values()]
    return [
        b.section("\n".join(lines)),
        b.context("`/dumont help up` has the options; so has the command line, `dumont`"),
    ]
