"""How a machine's agent and its workload are shown to a person. Every field may be missing, and unknown is a dash."""

from __future__ import annotations

from dumont.cli.errors import Json
from dumont.cli.output import UNKNOWN, Cli, duration, number, size, text_of

INTERVAL_SECONDS = 5.0
LATE_SECONDS = 2.5
"""A heartbeat that is later than its interval and this much more is missed, as the control plane has it."""


def health_text(machine: Json, seconds_since: float = 0.0) -> str:
    """A machine's health in a word or two: its workload's state, "alive" without one, "silent 12 s", "no agent"; a dash
    for a machine that does not run. `seconds_since`: how old the view is.
    """
    if machine.get("state") != "running":
        return UNKNOWN
    beat = machine.get("heartbeat")
    if not isinstance(beat, dict):
        return "no agent"
    age = beat.get("age_seconds")
    interval = (machine.get("spec") or {}).get("heartbeat_seconds") or INTERVAL_SECONDS
    if isinstance(age, int | float) and age + seconds_since > interval + LATE_SECONDS:
        return f"silent {_rough(age + seconds_since)}"
    workload: Json = beat.get("workload") or {}
    state = str(workload.get("state") or "none")
    return "alive" if state == "none" else state


def heartbeat_pairs(machine: Json) -> list[tuple[str, str]]:
    """Names and values of all that a machine's agent last said."""
    beat: Json = machine.get("heartbeat") or {}
    if not beat:
        return [("health", health_text(machine))]
    agent: Json = beat.get("agent") or {}
    heard = f"{duration(beat.get('age_seconds'))} ago (number {text_of(beat.get('sequence'))})"
    return [
        ("health", health_text(machine)),
        ("heard", heard),
        ("workload", workload_text(beat.get("workload") or {})),
        *_reading_pairs(beat.get("readings") or {}),
        ("agent", f"{str(agent.get('sha256') or UNKNOWN)[:12]} on Python {text_of(agent.get('python'))}"),
    ]


def workload_text(workload: Json) -> str:
    """What becomes of the workload: its state, how often it was started again, how it last ended."""
    state = str(workload.get("state") or "none")
    if state == "none":
        return "none (dumont up --run COMMAND keeps one running)"
    restarts = workload.get("restarts") or 0
    parts = [state]
    if restarts:
        parts.append(f"started again {restarts} {'time' if restarts == 1 else 'times'}")
    if workload.get("exit_status") is not None:
        parts.append(f"last ended with status {workload['exit_status']}")
    if workload.get("detail"):
        parts.append(str(workload["detail"]))
    return ", ".join(parts)


def _reading_pairs(readings: Json) -> list[tuple[str, str]]:
    pairs = [(f"gpu {place}", gpu_use_text(gpu)) for place, gpu in enumerate(readings.get("gpus") or [])]
    cpu = number(readings.get("cpu_percent"), unit=" %")
    load = number(readings.get("load_1m"), 2)
    memory = _of(readings.get("memory_used_mib"), readings.get("memory_total_mib"))
    received, sent = (readings.get(f"network_{way}_bytes_per_second") for way in ("receive", "send"))
    network = f"{size(received)}/s in, {size(sent)}/s out"
    return [
        *pairs,
        ("cpu", "" if cpu == load == UNKNOWN else f"{cpu}, load {load}"),
        ("memory", memory),
        ("disk free", number(readings.get("disk_free_gib"), 1, " GiB")),
        ("network", "" if received is None and sent is None else network),
        ("ssh sessions", number(readings.get("ssh_sessions"))),
    ]


def gpu_use_text(gpu: Json) -> str:
    """One GPU's use, memory, temperature and power; what it does not say is left out."""
    parts = [
        number(gpu.get("utilization_percent"), unit=" %"),
        _of(gpu.get("memory_used_mib"), gpu.get("memory_total_mib")),
        number(gpu.get("temperature_c"), unit=" °C"),
        number(gpu.get("power_w"), unit=" W"),
    ]
    return ", ".join(part for part in parts if part != UNKNOWN) or UNKNOWN


def _of(used_mib: object, total_mib: object) -> str:
    if not isinstance(used_mib, int | float):
        return UNKNOWN
    of = f" of {number(total_mib / 1024, 1)}" if isinstance(total_mib, int | float) else ""
    return f"{number(used_mib / 1024, 1)}{of} GiB"


def _rough(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else duration(seconds)


def show_heartbeat(cli: Cli, machine: Json) -> None:
    """What the agent of a machine that runs last said."""
    from dumont.cli.views import show_pairs

    if machine.get("state") == "running":
        cli.say()
        show_pairs(cli, heartbeat_pairs(machine))
