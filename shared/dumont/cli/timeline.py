"""The timeline of a failover: each step from the host's last word until the machine serves again, with its cost."""

from __future__ import annotations

from dumont.cli.errors import Json
from dumont.cli.output import Cli, duration, money, text_of
from dumont.cli.views import STEP_COLUMNS, gpu_text, racer_names, seconds_between, step_row


def timeline(operation: Json, machine: Json) -> list[Json]:
    """The steps of a failover in the order in which they began, and among them the moment from which the machine's
    route leads to its new host. Steps of hosts that race overlap, and so do their costs."""
    steps = list(operation.get("steps") or [])
    serves_at = machine.get("running_since")
    begun = began_at(operation)
    if isinstance(serves_at, int | float) and begun is not None and serves_at >= begun:
        steps.append(
            {
                "name": "route",
                "started_at": serves_at,
                "ended_at": serves_at,
                "seconds": 0.0,
                "ok": True,
                "instance_id": machine.get("instance_id"),
                "detail": f"epoch {text_of(machine.get('epoch'))} serves",
            }
        )
    lease = _lease(operation, serves_at)
    if lease is not None:
        steps.append(lease)
    return sorted(steps, key=lambda step: (step.get("started_at") or 0.0, step.get("ended_at") or 0.0))


def _lease(operation: Json, serves_at: object) -> Json | None:
    """How long the old host may have gone on serving after its fence, unheard: its replacement waited for that."""
    until = operation.get("serve_not_before")
    fenced = [step.get("ended_at") for step in operation.get("steps") or [] if step.get("name") == "confirm"]
    if not fenced or not isinstance(fenced[0], int | float) or not isinstance(until, int | float):
        return None
    end = min(until, serves_at) if isinstance(serves_at, int | float) else until
    if end <= fenced[0]:
        return None
    return {
        "name": "lease",
        "started_at": fenced[0],
        "ended_at": end,
        "seconds": end - fenced[0],
        "ok": True,
        "instance_id": operation.get("suspect_instance_id"),
        "detail": "until then the old host may have served: its replacement did not",
    }


def began_at(operation: Json) -> float | None:
    """When it began: with the first silence that was looked into, which is before the operation was made."""
    moments = [operation.get("created_at"), *(step.get("started_at") for step in operation.get("steps") or [])]
    known = [float(moment) for moment in moments if isinstance(moment, int | float)]
    return min(known, default=None)


def show_failover(cli: Cli, operation: Json, machine: Json) -> None:
    """The timeline, and what it comes to."""
    begun = began_at(operation)
    names = racer_names(operation)
    from_its_start = {**operation, "created_at": begun}
    steps = timeline(operation, machine)
    cli.table(STEP_COLUMNS, [step_row(step, from_its_start, names) for step in steps])
    offer = machine.get("offer") or machine.get("spec") or {}
    after = duration(seconds_between(begun, machine.get("running_since")))
    since = "its host's last word" if any(step.get("name") == "detect" for step in steps) else "it was asked for"
    where = f"{gpu_text(offer)} in {text_of(offer.get('region'))}"
    cli.say()
    cli.say(
        f"{text_of(machine.get('name'))} serves again on {where}, {after} after {since}; "
        f"{money(operation.get('cost_usd'))} so far, all its rentals together"
    )
    snapshot = operation.get("snapshot_id")
    cli.say(f"  its files: {f'as of {snapshot}' if snapshot else 'none were restored'}")
    if operation.get("state") == "running":
        cli.say(f"  (other hosts are still being released: dumont operation {text_of(operation.get('id'))})")


def show_drill(cli: Cli, operation: Json) -> None:
    """A rehearsal's steps, and what a real failover begun then would have come to."""
    names = racer_names({**operation, "kind": "provision"})
    cli.table(STEP_COLUMNS, [step_row(step, operation, names) for step in operation.get("steps") or []])
    found: Json = operation.get("rehearsal") or {}
    cli.say()
    detect, confirm = duration(found.get("detect_seconds")), duration(found.get("confirm_seconds"))
    cli.say(
        f"{text_of(operation.get('machine'))} would have served again {duration(found.get('serves_seconds'))} after "
        f"its host's death: {detect} to notice, {confirm} to be sure, {duration(found.get('ready_seconds'))} until a "
        "new host was ready (the last was measured, the others are what its settings make)"
    )
    if found.get("lease_seconds"):
        cli.say(f"  at most {duration(found.get('serves_at_most_seconds'))}, if the old host was only cut off from us")
    whole = "every byte was read back and is as it was" if found.get("byte_for_byte") else "nothing was restored"
    cli.say(f"  {text_of(operation.get('snapshot_id'))}: {whole}")
    cost = money(found.get("cost_usd"))
    cli.say(f"  the race cost {cost} until then, {money(operation.get('cost_usd'))} until all of it was let go")
