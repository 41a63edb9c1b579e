"""Is it dead? A missed heartbeat is one signal; a second, independent one decides (invariant 6). Pure.

What is not death: a provider that does not answer, an agent that alone has died, our own silence, and a machine among
many that fell silent at once (a sign that it is us).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from dumont.domain.evidence import Evidence

SHELL_TRIES = 2
"""How often SSH must have failed while the provider says "running": a dropped connection is not a death."""
LOOK_AGAIN_SECONDS = 0.5
LOOK_AGAIN_UNSURE_SECONDS = 5.0
NOTICE_SECONDS = 20.0
"""How long a provider's notice is waited for to come true before an instance that answers is held to be well."""
MASS_SHARE = 0.2
MASS_LEAST = 2
"""More than a fifth of the machines, and more than two of them: a fault of ours, not many deaths at once."""


class Verdict(enum.StrEnum):
    """What the evidence says."""

    ALIVE = "alive"
    AGENT_DEAD = "agent_dead"  # the host answers, its agent does not: start it again
    DEAD = "dead"
    UNSURE = "unsure"
    MASS = "mass"  # dead, by the look of it, with too many others


class Finding(msgspec.Struct, frozen=True):
    """A verdict, why, and when to look again if it is not final."""

    verdict: Verdict
    why: str
    again_seconds: float = LOOK_AGAIN_SECONDS


def judge(evidence: Sequence[Evidence], suspected_at: float) -> Finding:
    """What the looks since `suspected_at` say together; the latest is last."""
    if not evidence:
        return Finding(Verdict.UNSURE, "nobody has looked yet", 0.0)
    last = evidence[-1]
    if last.provider == "gone":
        return _dead(last, "the provider says that it is gone")
    # What its provider told us may be a moment ahead of what befalls it.
    waits = bool(last.notice) and last.at < suspected_at + NOTICE_SECONDS
    if last.heartbeat_at is not None and last.heartbeat_at > suspected_at and not waits:
        return Finding(Verdict.ALIVE, "its heartbeat came again")
    if last.shell == "answers" and waits:
        return Finding(Verdict.UNSURE, f"its provider told us ({last.notice}), and it still answers")
    if last.shell == "answers":
        return Finding(Verdict.AGENT_DEAD, "SSH answers, so the host lives and only its agent is silent")
    if last.provider in ("stopped", "offline", "broken"):
        how = f", as it told us ({last.notice})" if last.notice else ""
        return _dead(last, f"no heartbeat, and the provider says that it is {last.provider}{how}")
    if last.notice and last.provider == "unknown":
        return _dead(last, f"no heartbeat, and the provider told us: {last.notice}")
    if last.provider in ("running", "starting"):
        failed = _shell_failures(evidence)
        if failed >= SHELL_TRIES:
            return _dead(last, f"no heartbeat, and SSH did not answer {failed} times")
        return Finding(Verdict.UNSURE, "no heartbeat, and SSH did not answer")
    return Finding(
        Verdict.UNSURE,
        "no heartbeat, and the provider does not say how it is: its outage is not a death",
        LOOK_AGAIN_UNSURE_SECONDS,
    )


def _shell_failures(evidence: Sequence[Evidence]) -> int:
    count = 0
    for look in reversed(evidence):
        if look.shell not in ("silent", "refuses"):
            break
        count += 1
    return count


def _dead(last: Evidence, why: str) -> Finding:
    if is_mass(last.fleet_silent, last.fleet_heard):
        total = last.fleet_silent + last.fleet_heard
        return Finding(
            Verdict.MASS,
            f"{why}; but {last.fleet_silent} of {total} machines fell silent at once, which is rather our own fault",
            LOOK_AGAIN_UNSURE_SECONDS,
        )
    return Finding(Verdict.DEAD, why)


def is_mass(silent: int, heard: int) -> bool:
    """Whether so many at once are no longer deaths of their own."""
    return silent > MASS_LEAST and silent > MASS_SHARE * (silent + heard)


def overdue(deadline: float, now: float, *, listening_since: float, missed_after_seconds: float) -> bool:
    """Whether a heartbeat is missed. While we did not sweep we may not have listened either: what was due then is
    missed only once it had the usual time to come again."""
    return now >= max(deadline, listening_since + missed_after_seconds)


# --- How often a machine may move ---------------------------------------------------------------------------------

DAY_SECONDS = 86_400.0
HOUR_SECONDS = 3_600.0
FREE_PER_HOUR = 10
"""So many in an hour are bad luck; each one more waits twice as long as the last."""


def cooled_down_at(failovers_at: Sequence[float], now: float) -> float:
    """When the machine may move next: at once, until it moved often within the hour; then later and later."""
    recent = [at for at in failovers_at if at > now - HOUR_SECONDS]
    if len(recent) < FREE_PER_HOUR:
        return 0.0
    return float(max(recent) + min(1800.0, 30.0 * 2.0 ** (len(recent) - FREE_PER_HOUR)))


def too_often(failovers_at: Sequence[float], per_day: int, now: float) -> bool:
    """Whether the day's failovers are used up: then a clear stop instead of a loop."""
    return len([at for at in failovers_at if at > now - DAY_SECONDS]) >= per_day
