"""From what heartbeats proved to a verdict: is this machine idle now, and why, or why not, in words. Pure."""

from __future__ import annotations

from dumont.domain.idle import Activity, IdleVerdict, Signal, gap_seconds
from dumont.domain.specs import MachineSpec

SECONDS_PER_MINUTE = 60.0

NAMES = {
    "gpu_use": "GPU use",
    "gpu_memory": "GPU memory (change)",
    "cpu": "processor",
    "network": "network",
    "disk_writes": "disk writes",
    "ssh_sessions": "SSH sessions",
    "user_processes": "a user's processes",
    "workload": "the workload",
    "start": "it began to serve",
}
"""Signals as a person reads them."""


def judge(
    activity: Activity | None,
    spec: MachineSpec,
    *,
    now: float,
    keep_until: float | None = None,
    last_request_at: float | None = None,
    serving_since: float | None = None,
) -> IdleVerdict:
    """Whether a machine that serves is idle: proven so for its whole window by heartbeats of which the last is fresh
    and quiet, with no request within the window, no keep-alive that lasts, and in service for a window at least.
    """
    window = None if spec.idle_after_minutes is None else spec.idle_after_minutes * SECONDS_PER_MINUTE
    why_not = _by_itself(window) + _kept(keep_until, now) + _heard(activity, spec, now)
    if window is not None:
        why_not += _recent("a request came through the gateway", last_request_at, window, now)
        why_not += _recent("it began to serve", serving_since, window, now)
    why_not += _unproven(activity, window, now)
    if why_not or activity is None or window is None:
        return IdleVerdict(
            idle=False,
            words=tuple(why_not),
            idle_at=_earliest(activity, window, now, keep_until, last_request_at, serving_since),
        )
    proven, asked = span(activity.proven_idle_seconds), span(window)
    words = (f"nothing used it for {proven}, and {asked} is enough; {_last_use(activity, now)}",)
    return IdleVerdict(idle=True, words=words, idle_at=now)


def _by_itself(window: float | None) -> list[str]:
    return [] if window is not None else ["it never sleeps by itself: it was given no time to sleep after"]


def _kept(keep_until: float | None, now: float) -> list[str]:
    if keep_until is None or keep_until <= now:
        return []
    return [f"it is kept awake for another {span(keep_until - now)}"]


def _heard(activity: Activity | None, spec: MachineSpec, now: float) -> list[str]:
    if activity is None or not activity.serving:
        return ["its agent was not heard since it began to serve, and what is unknown is not idle"]
    silence = now - activity.heard_at
    if silence > gap_seconds(spec):
        return [f"its agent was last heard {span(silence)} ago, and silence proves nothing"]
    return [_unknown(name) for name in activity.unknown]


def _unknown(name: str) -> str:
    return f"its last heartbeat does not tell: {NAMES.get(name, name)}; what is unknown is not idle"


def _recent(what: str, at: float | None, window: float, now: float) -> list[str]:
    if at is None or at <= 0.0 or now - at >= window:
        return []
    return [f"{what} {span(max(0.0, now - at))} ago"]


def _unproven(activity: Activity | None, window: float | None, now: float) -> list[str]:
    if activity is None or not activity.serving:
        return []
    proven = activity.proven_idle_seconds
    if window is not None and proven >= window:
        return []
    asked = "" if window is None else f" of the {span(window)} that it takes"
    return [f"nothing used it for {span(proven)}{asked}; {_last_use(activity, now)}"]


def _last_use(activity: Activity, now: float) -> str:
    when = span(max(0.0, now - activity.active_at))
    if activity.active_because == ("start",):
        return f"it began to serve {when} ago"
    because = ", ".join(NAMES.get(name, name) for name in activity.active_because)
    return f"it was last in use {when} ago, by {because}"


def _earliest(
    activity: Activity | None,
    window: float | None,
    now: float,
    keep_until: float | None,
    last_request_at: float | None,
    serving_since: float | None,
) -> float | None:
    if window is None:
        return None
    # Of the time since the last heartbeat nothing is proven yet, but the next one may prove all of it.
    proven_at = now + window
    if activity is not None and activity.serving:
        proven_at = activity.heard_at + max(0.0, window - activity.proven_idle_seconds)
    moments = [now, proven_at, keep_until or 0.0]
    moments += [at + window for at in (last_request_at, serving_since) if at]
    return max(moments)


def describe(signal: Signal) -> str:
    """A signal as a person reads it: "GPU use 37 % (not use up to 5 %)"."""
    if signal.name == "workload":
        shown = {None: "unknown", 0.0: "does not run"}.get(signal.seen, "runs")
        return f"{NAMES['workload']} {shown}"
    seen = "unknown" if signal.seen is None else _amount(signal.seen, signal.unit)
    return f"{NAMES.get(signal.name, signal.name)} {seen} (not use up to {_amount(signal.limit, signal.unit)})"


def _amount(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return f"{text} {unit}".strip()


def span(seconds: float) -> str:
    """A length of time as a person says it: 42 s, 12 min, 3 h 5 min, 2 d 4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
