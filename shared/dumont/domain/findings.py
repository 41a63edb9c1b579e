"""What a look at a set-up finds: one thing, whether it is as it should be, and the command that mends it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec


class State(enum.StrEnum):
    """How one thing stands."""

    OK = "ok"
    WARNING = "warning"
    """It works now, and something about it should be seen to, or is still on its way."""
    MISSING = "missing"
    """It is not there, or not as it must be."""
    UNKNOWN = "unknown"
    """It was asked for, and no answer came that says it. Never taken for well."""
    SKIPPED = "skipped"
    """Not wanted here, or not to be known from here."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. No secret is in it, nor a part of one."""

    area: str
    """Where it belongs: "apis", "secrets", "slack"."""
    name: str
    state: State
    says: str
    """What was found, and what that means."""
    mend: str = ""
    """A command for a shell, or what else to do; "" where nothing is to be done."""


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing is missing and nothing unknown."""
    return all(finding.state not in (State.MISSING, State.UNKNOWN) for finding in findings)


def ok(area: str, name: str, says: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(area=area, name=name, state=State.OK, says=says)


def missing(area: str, name: str, says: str, mend: str) -> Finding:
    """A thing that is not there, or not as it must be."""
    return Finding(area=area, name=name, state=State.MISSING, says=says, mend=mend)


def warning(area: str, name: str, says: str, mend: str = "") -> Finding:
    """A thing to see to."""
    return Finding(area=area, name=name, state=State.WARNING, says=says, mend=mend)


def unknown(area: str, name: str, says: str, mend: str) -> Finding:
    """A thing that no answer tells of."""
    return Finding(area=area, name=name, state=State.UNKNOWN, says=says, mend=mend)


def skipped(area: str, name: str, says: str, mend: str = "") -> Finding:
    """A thing that was not looked at."""
    return Finding(area=area, name=name, state=State.SKIPPED, says=says, mend=mend)


SKEW_SECONDS_MAX = 5.0
"""Signatures and tokens of Google's, AWS's form and Slack's bear their time; all of them allow for minutes, but what
is off by seconds soon is off by more."""


def skew(area: str, whose: str, seconds: float | None) -> Finding:
    """Our clock against another's, whose answers count whole seconds. `seconds`: how far theirs is ahead."""
    if seconds is None:
        return unknown(area, "clock", f"{whose} did not say what time it is", "date -u")
    if abs(seconds) <= SKEW_SECONDS_MAX:
        return ok(area, "clock", f"within {SKEW_SECONDS_MAX:.0f} s of {whose}'s")
    way = "behind" if seconds > 0 else "ahead of"
    return warning(
        area,
        "clock",
        f"{abs(seconds):.0f} s {way} {whose}'s: signed requests are refused when that grows",
        "sudo timedatectl set-ntp true",
    )
