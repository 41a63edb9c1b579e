"""What is told by itself: alerts as messages, each from the records as they are when it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dumont.domain import costs
from dumont.domain.alerts import Alert, AlertKind
from dumont.domain.chats import REPLY_SECONDS, Chat
from dumont.domain.errors import Unknown
from dumont.domain.happenings import reason_of
from dumont.domain.messages import Message
from dumont.domain.moving import is_fenced
from dumont.domain.records import Instance, Machine, MachineState, Operation, OperationKind, OperationState, Step
from dumont.domain.snapshots import Snapshot
from dumont.edge.slack import blocks as b
from dumont.edge.slack import cards, money
from dumont.edge.slack.blocks import Block, clipped, code, escaped
from dumont.edge.slack.figures import duration, gpus, per_hour, size, usd
from dumont.operations import look, spending
from dumont.operations.look import MachineSeen, OperationSeen
from dumont.ports import Ports

STEPS_MOST = 18


def compose(ports: Ports, alert: Alert) -> Message | None:
    """The message of an alert now; None where there is nothing to say any more."""
    return _KINDS[alert.kind](ports, alert)


def _message(headline: str, blocks: Sequence[Block], *, final: bool = True) -> Message:
    """`headline` is escaped."""
    return Message(text=clipped(headline, b.FALLBACK_MOST), blocks=b.message(blocks), final=final)


# --- Operations ---------------------------------------------------------------------------------------------------


def _operation(ports: Ports, alert: Alert) -> Message | None:
    op = ports.store.get(Operation, alert.operation_id)
    if op is None:
        return None
    seen = look.operation(ports, op.id)
    machine = ports.store.get(Machine, op.machine)
    match op.kind:
        case OperationKind.FAILOVER:
            return failover(seen, machine)
        case OperationKind.REAP:
            return orphan(seen)
        case OperationKind.WAKE:
            return woken(seen, machine)
        case OperationKind.HIBERNATE:
            return hibernated(seen, machine)
    return None


def failover(seen: OperationSeen, machine: Machine | None) -> Message:
    """A failover, from its fence to its end: one message that changes."""
    op, name = seen.operation, f"*{escaped(seen.operation.machine)}*"
    serves = (
        machine is not None and machine.state is MachineState.RUNNING and machine.epoch == op.epoch and is_fenced(op)
    )
    began = min([op.created_at, *(step.started_at for step in op.steps)])
    if serves and machine is not None and machine.running_since is not None:
        where = _where(seen.instances, machine.instance_id)
        since = "its host's last word" if any(s.name == "detect" for s in op.steps) else "it was asked for"
        head = f"✅ {name} serves again{where}, {duration(machine.running_since - began)} after {since}"
    elif op.open:
        head = f"{_why_moved(op)} {name} moves to another host"
    elif op.state is OperationState.FAILED:
        head = f"🔴 {name} was not moved"
    else:
        head = f"➡️ {name}: its failover gave way to something else"
    shown = [b.section(head), b.section(timeline(op, began))] if op.steps else [b.section(head)]
    if op.problem is not None and not serves:
        shown.append(b.section("\n".join(cards.problem(op.problem))))
    total = costs.total(seen.instances, seen.now).total_usd if not op.open else None
    small = [f"epoch {op.epoch}", code(op.id), f"{usd(total)} in all" if total is not None else ""]
    shown.append(b.context(" · ".join(part for part in small if part)))
    return _message(head, shown, final=serves or not op.open)


def _runs(machine: Machine | None, op: Operation) -> bool:
    return machine is not None and machine.state is MachineState.RUNNING and machine.epoch == op.epoch


def _why_moved(op: Operation) -> str:
    why = reason_of(op)
    if why == "asked":
        return f"🔁 {escaped(op.requested_by)} wants it:"
    return "💸 Bid lost:" if why == "bid_lost" else "🚨 Host lost:"


def _where(instances: Sequence[Instance], instance_id: str | None) -> str:
    found = next((i for i in instances if i.id == instance_id), None)
    if found is None:
        return ""
    region = f" in {escaped(found.offer.region, 60)}" if found.offer.region else ""
    return f" on {gpus(found.offer)}{region} at {per_hour(found.offer.total_usd_per_hour(found.disk_gb))}"


def timeline(op: Operation, began: float) -> str:
    """The steps of an operation in the order in which they began: when, how long, how it went. Escaped."""
    steps = sorted(op.steps, key=lambda step: (step.started_at, step.ended_at))
    rows = [_row(step, began) for step in steps[:STEPS_MOST]]
    return "\n".join(rows + ([f"… and {len(steps) - STEPS_MOST} more"] if len(steps) > STEPS_MOST else []))


def _row(step: Step, began: float) -> str:
    offset = f"{step.started_at - began:6.1f} s"
    sign = "" if step.ok else " ✗"
    detail = f"  {escaped(step.detail, 80)}" if step.detail else ""
    return f"`{offset}` {escaped(step.name, 40)}{sign}  _{duration(step.ended_at - step.started_at)}_{detail}"


def orphan(seen: OperationSeen) -> Message:
    """Something that nobody answers for, found and destroyed."""
    op = seen.operation
    what = [
        f"{gpus(i.offer)} at {escaped(i.provider)} ({code(i.provider_instance_id or i.id, 60)})" for i in seen.instances
    ]
    of_whom = f", once of *{escaped(op.machine)}*" if op.machine != "unknown" else ""
    head = "👻 An orphan was found, and is being destroyed" if op.open else "🧹 An orphan was found and destroyed"
    if op.state is OperationState.FAILED:
        head = "🔴 An orphan was found, and is not destroyed"
    spent = costs.total(seen.instances, seen.now).total_usd
    lines = [head + of_whom, *what, f"no operation answered for it; it cost {usd(spent)}"]
    return _message(head, [b.section("\n".join(lines)), b.context(code(op.id))], final=not op.open)


def woken(seen: OperationSeen, machine: Machine | None) -> Message:
    """A machine is awake, or could not be woken."""
    op, name = seen.operation, f"*{escaped(seen.operation.machine)}*"
    by = escaped(op.requested_by)
    if machine is not None and _runs(machine, op):
        took = duration((machine.running_since or seen.now) - op.created_at)
        head = f"☀️ {name} is awake{_where(seen.instances, machine.instance_id)}, after {took} (by {by})"
    else:
        head = f"🔴 {name} could not be woken (by {by})"
    shown = [b.section(head)]
    if op.problem is not None:
        shown.append(b.section("\n".join(cards.problem(op.problem))))
    return _message(head, shown)


def hibernated(seen: OperationSeen, machine: Machine | None) -> Message:
    """A machine sleeps, or was kept from it."""
    op, name = seen.operation, f"*{escaped(seen.operation.machine)}*"
    by = escaped(op.requested_by)
    if op.state is OperationState.FAILED:
        shown = [b.section(f"⚠️ {name} does not sleep (by {by})")]
        shown += [b.section("\n".join(cards.problem(op.problem)))] if op.problem is not None else []
        return _message(f"{name} does not sleep", shown)
    paused = machine is not None and machine.paused_instance_id is not None
    how = "paused: its disk is kept, and bills" if paused else "hibernated: no GPU, no disk"
    head = f"🌙 {name} sleeps, {how} (by {by})"
    asleep = machine is not None and machine.state is MachineState.HIBERNATED
    wake = [b.button("Wake", "machine.wake", cards.value(machine), style="primary")] if asleep and machine else []
    return _message(head, [b.section(head), *b.actions(wake)])


# --- Answers ------------------------------------------------------------------------------------------------------


def _reply(ports: Ports, alert: Alert) -> Message | None:
    """The end of what somebody asked for, told where they asked; after half an hour, to them alone."""
    chat = ports.store.get(Chat, alert.request_id)
    op = ports.store.get(Operation, alert.operation_id)
    if chat is None or op is None:
        return None
    blocks, text = ended(ports, op)
    holds = ports.clock.now() < chat.received_at + REPLY_SECONDS
    return Message(
        text=clipped(text, b.FALLBACK_MOST), blocks=b.message(blocks), channel=chat.user,
        reply_url=chat.reply_url if holds else "", in_channel=True,
    )  # fmt: skip


def ended(ports: Ports, op: Operation) -> tuple[list[Block], str]:
    """How an operation ended, with the machine's card; and in words."""
    seen = look.machine(ports, op.machine)
    name = f"*{escaped(op.machine)}*"
    if op.problem is not None and op.state is not OperationState.SUPERSEDED and not _serves(op, seen):
        note = "\n".join([f"{name}: the {op.kind.value} failed", *cards.problem(op.problem)])
        if op.kind is OperationKind.DESTROY and seen.machine.state not in cards.ENDED:
            return cards.ways_down(seen.machine, note=note), note
        return cards.machine(seen, note), note
    note = _outcome(ports, op, seen, name)
    return cards.machine(seen, note), note


def _serves(op: Operation, seen: MachineSeen) -> bool:
    return _runs(seen.machine, op) and op.open


def _outcome(ports: Ports, op: Operation, seen: MachineSeen, name: str) -> str:
    if op.state is OperationState.SUPERSEDED:
        return f"{name}: the {op.kind.value} gave way to something else"
    took = duration((op.ended_at or seen.now) - op.created_at)
    match op.kind:
        case OperationKind.PROVISION:
            took = duration((seen.machine.running_since or seen.now) - op.created_at)
            return f"🎉 {name} runs, proven after {took}. {code(f'dumont ssh {op.machine}')}"
        case OperationKind.DESTROY:
            return f"🗑️ {name} is gone, as its provider confirms; it cost {usd(seen.cost.total_usd)}"
        case OperationKind.SNAPSHOT:
            taken = ports.store.get(Snapshot, op.snapshot_id or "")
            what = f"{taken.files:,} files, {size(taken.bytes_total)}, " if taken is not None else ""
            return f"💾 {name} is saved and verified: {what}{took}"
        case OperationKind.HIBERNATE:
            return f"🌙 {name} sleeps, after {took}"
        case OperationKind.WAKE:
            return f"☀️ {name} is awake, after {duration((seen.machine.running_since or seen.now) - op.created_at)}"
        case OperationKind.FAILOVER:
            return f"✅ {name} was moved, in {duration((seen.machine.running_since or seen.now) - op.created_at)}"
        case OperationKind.DRILL:
            serves = op.progress.get("serves_seconds")
            how = f" it would have served again {duration(serves)} after its host's death" if serves is not None else ""
            return f"🧯 {name}: the rehearsal is done;{how or ' see `dumont operations`'}"
    return f"✅ {name}: the {op.kind.value} is done, after {took}"


# --- Money, snapshots, days ---------------------------------------------------------------------------------------


def _budget(ports: Ports, alert: Alert) -> Message:
    del ports
    share, spent = alert.figures.get("share", 0.0), alert.figures.get("spent_usd")
    limit, window = alert.figures.get("limit_usd"), alert.words.get("window", "")
    whose = f"of *{escaped(alert.machine)}*" if alert.machine else "of all machines together"
    full = share >= 1.0 - 1e-9
    head = f"{'🛑' if full else '💰'} {share * 100:.0f} % of the budget {whose} is spent"
    action = alert.words.get("action", "").replace("_", " ")
    small = f"{'now' if full else 'at the limit'}: {escaped(action)} · `dumont budget set` raises it"
    per = {"hour": "an hour", "day": "a day", "total": "in all"}.get(window, escaped(window))
    line = f"{money.bar(share)} {usd(spent)} of {usd(limit)} {per}"
    return _message(head, [b.section(f"{head}\n{line}"), b.context(small)])


def _unenforced(ports: Ports, alert: Alert) -> Message | None:
    try:
        machine = look.machine(ports, alert.machine).machine
    except Unknown:
        return None
    name = escaped(alert.machine)
    head = f"🛑 The budget is spent, and *{name}* bills on: it cannot be saved"
    detail = escaped(alert.words.get("detail", "")) or "see `dumont operations`"
    small = f"it is tried again, ever more seldom · {code(f'dumont ssh {machine.id}')} to look for yourself"
    ways = f"{code(f'dumont down {machine.id} --discard')} ends it, with all that is not saved"
    return _message(head, [b.section(f"{head}\n{detail}"), b.context(f"{small} · {ways}")])


def _overdue(ports: Ports, alert: Alert) -> Message | None:
    try:
        seen = look.machine(ports, alert.machine)
    except Unknown:
        return None
    late, every = alert.figures.get("seconds"), alert.figures.get("every_minutes", 0.0) * 60
    last = alert.words.get("last")
    head = f"⏰ *{escaped(alert.machine)}* has no good snapshot of the last {duration(late)}"
    lines = [head, f"one is wanted each {duration(every)}; {f'the last is {code(last)}' if last else 'there is none'}"]
    button = b.button("Snapshot now", "machine.snapshot", cards.value(seen.machine))
    return _message(head, [b.section("\n".join(lines), button=button)])


def _digest(ports: Ports, alert: Alert) -> Message | None:
    start, end = alert.figures.get("from_time", 0.0), alert.figures.get("to_time", 0.0)
    found = spending.costs(ports, machine=None, from_time=start, to_time=end, by="machine", zone="UTC")
    machines = look.machines(ports)
    if not found.entries and not machines:
        return None
    saved = spending.saved(ports, machine=None, from_time=start, to_time=end)
    text = f"Yesterday: {usd(found.total.usd)} spent"
    return _message(text, money.digest(found, saved, machines, ports.clock.now()))


def _webhook(ports: Ports, alert: Alert) -> Message:
    del ports
    which, gone = alert.words.get("subscription", ""), alert.words.get("why") == "gone"
    why = "its receiver answers that it is gone" if gone else "nothing has reached it for days"
    head = f"🔕 The webhook {code(which)} is disabled: {why}"
    small = (
        f"{code(f'dumont webhook deliveries {which} --state dead')} · {code(f'dumont webhook set {which} --enable')}"
    )
    return _message(head, [b.section(head), b.context(small)])


_KINDS: dict[AlertKind, Callable[[Ports, Alert], Message | None]] = {
    AlertKind.OPERATION: _operation,
    AlertKind.REPLY: _reply,
    AlertKind.BUDGET: _budget,
    AlertKind.UNENFORCED: _unenforced,
    AlertKind.OVERDUE: _overdue,
    AlertKind.DIGEST: _digest,
    AlertKind.WEBHOOK: _webhook,
}
