"""How machines, operations, instances and offers are shown to a person. Every field may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dumont.cli.errors import Json
from dumont.cli.health import health_text
from dumont.cli.output import UNKNOWN, Cli, duration, moment, money, number, size, text_of

OFFER_COLUMNS = (
    "gpu", ">vram", ">$/h", ">to finish", ">reliab.", ">down", ">up", ">disk", ">cuda", "region", "offer",
)  # fmt: skip
MACHINE_COLUMNS = ("name", "state", "health", "spare", "gpu", "region", ">$/h", ">cost", "running for", "ssh")
OPERATION_COLUMNS = ("operation", "kind", "machine", "state", "phase", "started", ">took", ">cost")
STEP_COLUMNS = ("step", "on", ">started", ">seconds", ">cost", "ok", "detail")
SNAPSHOT_COLUMNS = ("snapshot", "machine", "state", "taken", ">files", ">size", ">sent", ">took", "remark")
ASLEEP = "asleep"
"""Why a paused machine's host serves no more, as the API has it."""
INSTANCE_COLUMNS = ("rental", "state", "gpu", "region", ">$/h", ">boot", ">cost", "why it ended")


def seconds_between(start: object, end: object) -> float | None:
    """The length of a stretch, if both of its ends are known."""
    if isinstance(start, int | float) and isinstance(end, int | float):
        return max(0.0, float(end) - float(start))
    return None


def gpu_text(thing: Json) -> str:
    """What GPUs an offer has or a machine's spec asks for: "2× RTX 4090"."""
    count = thing.get("gpu_count") or 1
    name = text_of(thing.get("gpu"))
    return f"{count}× {name}" if count != 1 else name


def offer_row(ranked: Json) -> list[str]:
    """A ranked offer, as OFFER_COLUMNS."""
    offer = ranked.get("offer") or {}
    share = offer.get("reliability")
    kind = " (bid)" if offer.get("interruptible") else ""
    return [
        gpu_text(offer) + kind,
        number(offer.get("vram_gib"), unit=" GiB"),
        money(ranked.get("price_usd_per_hour")),
        money(ranked.get("finish_usd"), 2),
        number(share * 100 if isinstance(share, int | float) else None, 1, "%"),
        number(offer.get("download_mbps")),
        number(offer.get("upload_mbps")),
        number(offer.get("disk_gb"), unit=" GB"),
        number(offer.get("cuda_version"), 1),
        text_of(offer.get("region")),
        f"{text_of(offer.get('provider'))}:{text_of(offer.get('id'))}" + _unverified(offer),
    ]


def _unverified(offer: Json) -> str:
    return "" if offer.get("verified") else " unverified"


def machine_row(machine: Json, now: float) -> list[str]:
    """A machine, as MACHINE_COLUMNS."""
    offer = machine.get("offer") or {}
    running = machine.get("running_since") if machine.get("state") == "running" else None
    return [
        text_of(machine.get("name")),
        machine_state(machine),
        health_text(machine),
        text_of((machine.get("spare") or {}).get("state")),
        gpu_text(offer or machine.get("spec") or {}),
        text_of(offer.get("region")),
        money(machine.get("price_usd_per_hour")),
        money(machine.get("cost_usd")),
        duration(seconds_between(running, now)),
        ssh_text(machine),
    ]


def machine_state(machine: Json) -> str:
    """A machine's state in a word: one that sleeps with its stopped host kept, whose disk bills, is paused."""
    paused = machine.get("state") == "hibernated" and machine.get("paused_instance_id")
    return "paused" if paused else text_of(machine.get("state"))


def rate_text(rental: Json) -> str:
    """What a rental bills an hour, GPU and disk as everywhere; of an older API, which does not say it, the GPU."""
    return money(rental.get("price_usd_per_hour") or (rental.get("offer") or {}).get("gpu_usd_per_hour"))


def ssh_text(machine: Json) -> str:
    """Where SSH answers, as user@host:port."""
    ssh = machine.get("ssh") or {}
    if not ssh.get("host"):
        return UNKNOWN
    return f"{ssh.get('user') or 'root'}@{ssh['host']}:{ssh.get('port') or 22}"


def operation_row(operation: Json) -> list[str]:
    """An operation, as OPERATION_COLUMNS."""
    return [
        text_of(operation.get("id")),
        text_of(operation.get("kind")),
        text_of(operation.get("machine")),
        text_of(operation.get("state")),
        text_of(operation.get("phase")),
        moment(operation.get("created_at")),
        duration(seconds_between(operation.get("created_at"), operation.get("ended_at"))),
        money(operation.get("cost_usd")),
    ]


def racer_names(operation: Json) -> dict[str, str]:
    """A letter for each of an operation's rentals, by the order in which they were asked for; none if it is alone,
    as after a race, where it had another letter.
    """
    instances = sorted(operation.get("instances") or [], key=lambda i: i.get("intended_at") or 0.0)
    if len(instances) < 2 and operation.get("kind") not in (None, "provision"):
        return {}
    return {str(instance.get("id")): _letters(place) for place, instance in enumerate(instances)}


def _letters(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"#{place + 1}"


def step_row(step: Json, operation: Json, names: dict[str, str]) -> list[str]:
    """A step of an operation, as STEP_COLUMNS."""
    return [
        text_of(step.get("name")),
        names.get(str(step.get("instance_id")), ""),
        duration(seconds_between(operation.get("created_at"), step.get("started_at"))),
        number(step.get("seconds"), 2),
        money(step.get("cost_usd")),
        "ok" if step.get("ok", True) else "failed",
        str(step.get("detail") or ""),
    ]


def is_kept(instance: Json) -> bool:
    """Whether a rental is the stopped host that a paused machine keeps: nothing of it is lost."""
    return instance.get("state") == "lost" and (instance.get("problem") or {}).get("code") == ASLEEP


def instance_row(instance: Json, names: dict[str, str]) -> list[str]:
    """A rental, as INSTANCE_COLUMNS."""
    offer = instance.get("offer") or {}
    problem = instance.get("problem") or {}
    return [
        names.get(str(instance.get("id"))) or text_of(instance.get("id")),
        "paused" if is_kept(instance) else text_of(instance.get("state")),
        gpu_text(offer),
        text_of(offer.get("region")),
        rate_text(instance),
        duration(seconds_between(instance.get("created_at"), instance.get("booted_at"))),
        money(instance.get("cost_usd")),
        str(problem.get("detail") or ""),
    ]


def snapshot_row(snapshot: Json) -> list[str]:
    """A snapshot, as SNAPSHOT_COLUMNS."""
    copied = snapshot.get("state") not in ("taking", "failed")
    return [
        text_of(snapshot.get("id")),
        text_of(snapshot.get("machine")),
        text_of(snapshot.get("state")),
        moment(snapshot.get("created_at")),
        number(snapshot.get("files") if copied else None),
        size(snapshot.get("bytes_total") if copied else None),
        size(snapshot.get("bytes_sent") if copied else None),
        duration(snapshot.get("seconds") if copied else None),
        snapshot_remark(snapshot),
    ]


def snapshot_remark(snapshot: Json) -> str:
    """What else is to be known of a snapshot: why it was taken, what it lacks, whether it is kept or was read back."""
    missing = snapshot.get("missing") or []
    reason = snapshot.get("reason")
    remarks = [
        str(reason) if reason not in (None, "", "user") else "",
        "kept" if snapshot.get("keep") else "",
        "read back" if snapshot.get("deep_verified_at") and not snapshot.get("problem") else "",
        f"{len(missing)} missing: {missing[0]}" if missing else "",
        str((snapshot.get("problem") or {}).get("detail") or ""),
    ]
    return ", ".join(remark for remark in remarks if remark)


def progress_text(operation: Json) -> str:
    """How far a copy is, from an operation's `progress`: files, bytes read, sent, received; empty if unknown."""
    progress: Json = operation.get("progress") or {}
    words = (
        ("files", "files", number),
        ("bytes", "", size),
        ("bytes_read", "read", size),
        ("bytes_sent", "sent", size),
        ("bytes_received", "received", size),
    )
    parts = [f"{show(progress[name])} {word}".strip() for name, word, show in words if progress.get(name)]
    return ", ".join(parts)


def show_pairs(cli: Cli, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line; what is not known is left out."""
    shown = [(name, value) for name, value in pairs if value not in ("", UNKNOWN)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        cli.say(f"{name:<{width}}  {value}")


def show_problem(cli: Cli, problem: Json | None) -> None:
    """Why something ended badly, what was kept safe and what to do next."""
    if not problem:
        return
    show_pairs(
        cli,
        [
            ("problem", text_of(problem.get("detail"))),
            ("kept safe", text_of(problem.get("safe"))),
            ("next", text_of(problem.get("hint"))),
        ],
    )


def show_machine(cli: Cli, machine: Json, now: float) -> None:
    """A machine with all that is known of it."""
    spec: Json = machine.get("spec") or {}
    offer: Json = machine.get("offer") or {}
    budget = spec.get("budget_usd")
    asleep = machine.get("state") == "hibernated"
    running = machine.get("running_since") if machine.get("state") in ("running", "destroyed") else None
    show_pairs(
        cli,
        [
            ("name", text_of(machine.get("name"))),
            ("state", machine_state(machine)),
            ("epoch", text_of(machine.get("epoch"))),
            ("gpu", gpu_text(offer or spec)),
            ("region", text_of(offer.get("region"))),
            ("host", text_of(offer.get("host_id"))),
            ("ssh", ssh_text(machine)),
            ("host key", text_of(machine.get("host_key"))),
            ("workspace", text_of(spec.get("workspace"))),
            ("runs", _first_line(str(spec.get("run") or ""))),
            ("failover", "off: it is not moved by itself" if spec.get("failover") == "off" else ""),
            ("spare", spare_text(machine)),
            ("price", money(machine.get("price_usd_per_hour")) + "/h" if machine.get("price_usd_per_hour") else ""),
            ("cost so far", money(machine.get("cost_usd"))),
            ("budget", f"{money(budget, 2)}: reaching it destroys the machine" if budget else ""),
            ("made", moment(machine.get("created_at"))),
            ("running for", duration(seconds_between(running, machine.get("ended_at") or now))),
            ("asleep for", duration(seconds_between(machine.get("slept_at"), now)) if asleep else ""),
            ("its disk", "is kept with its stopped host, and bills" if machine_state(machine) == "paused" else ""),
            ("ended", moment(machine.get("ended_at"))),
            ("operation", text_of(machine.get("operation_id"))),
        ],
    )
    show_problem(cli, machine.get("failure"))
    show_proof(cli, machine.get("proof"))


def _first_line(text: str) -> str:
    """The first line of a command; more of it is in --json."""
    first, *rest = text.strip().split("\n", 1)
    return f"{first} …" if rest else first


def spare_text(machine: Json) -> str:
    """Its spare, in a line; empty where it is to have none."""
    spare: Json = machine.get("spare") or {}
    wanted = (machine.get("spec") or {}).get("spare") or "none"
    if not spare:
        return "" if wanted == "none" else f"none yet ({wanted}): it is made once there is a snapshot"
    has = f"has {spare['snapshot_id']}" if spare.get("snapshot_id") else "empty"
    where = text_of(spare.get("region"))
    return f"{text_of(spare.get('state'))} in {where}, {has}, {money(spare.get('price_usd_per_hour'))}/h"


def show_proof(cli: Cli, proof: Any) -> None:
    """What was tried on the machine before it was called running."""
    if not isinstance(proof, dict):
        return
    cli.say()
    for gpu in proof.get("gpus") or []:
        memory = number(gpu.get("vram_mib"), unit=" MiB")
        cli.say(f"proof: {text_of(gpu.get('model'))}, {memory}, driver {text_of(gpu.get('driver_version'))}")
    rows = [
        [
            text_of(c.get("name")),
            "ok" if c.get("ok") else "failed",
            number(c.get("seconds"), 2),
            str(c.get("seen") or ""),
        ]
        for c in proof.get("checks") or []
    ]
    cli.table(("check", "ok", ">seconds", "seen"), rows)
