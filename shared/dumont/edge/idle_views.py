"""What goes out of whether a machine is idle: the verdict, the readings beside their limits, and the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from dumont.domain.idle_verdict import describe
from dumont.domain.tariffs import Row
from dumont.domain.tiers import Choice
from dumont.operations.idle import IdleSeen


def idle(seen: IdleSeen) -> dict[str, Any]:
    """`idle` is None for a machine that does not serve; `sleep` says how it would sleep, or sleeps."""
    machine, verdict = seen.machine, seen.verdict
    words = verdict.words if verdict is not None else (f"it is {machine.state.value}: only what serves can be idle",)
    view: dict[str, Any] = {
        "name": machine.id,
        "state": machine.state.value,
        "idle": verdict.idle if verdict is not None else None,
        "words": words,
        "idle_at": verdict.idle_at if verdict is not None else None,
        "sleep_after_seconds": _times_60(machine.spec.idle_after_minutes),
        "proven_idle_seconds": seen.activity.proven_idle_seconds if seen.activity is not None else None,
        "keep_until": machine.keep_until if machine.keep_until > seen.now else None,
        "next_due": msgspec.to_builtins(seen.next_due) if seen.next_due is not None else None,
        "signals": [msgspec.to_builtins(signal) | {"words": describe(signal)} for signal in seen.signals],
        "sleep": _sleep(seen.choice) if seen.choice is not None else None,
        "now": seen.now,
    }
    return {name: value for name, value in view.items() if value is not None or name == "idle"}


def _sleep(choice: Choice) -> dict[str, Any]:
    view = {
        "tier": choice.tier.value,
        "next_tier": choice.next_tier.value if choice.next_tier is not None else None,
        "next_at_seconds": choice.next_at_seconds,
        "learned": choice.learned,
        "rows": [_row(row) for row in choice.rows],
    }
    return {name: value for name, value in view.items() if value is not None}


def _row(row: Row) -> dict[str, Any]:
    """JSON has no infinity: a line that is never reached has `seconds` null."""
    fields = msgspec.to_builtins(row)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}


def _times_60(minutes: float | None) -> float | None:
    return None if minutes is None else minutes * 60.0
