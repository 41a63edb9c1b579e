"""When machines wake and sleep by the clock: "weekdays 08:45", "daily 22:00", or cron, each in an IANA zone. Pure.

Cron expressions are read by `cronsim`: one small typed module without dependencies (4 ms to import), BSD-licensed, kept
up, made for and used by Healthchecks, which must get just this right. Where a clock is put forward, what falls into the
gap comes at its end; where it is put back, what would come twice comes once, the first time (Debian's cron does so
too). Expressions whose hour or minute begins with "*" go by elapsed time. The zones are those of Python's zoneinfo: a
table that it reads once, from the system or from the package tzdata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from dumont.domain.errors import InvalidInput
from dumont.domain.specs import MachineSpec

_DAY = 86_400.0
_LOOK_BACK_SECONDS = (3600.0, _DAY, 8 * _DAY, 64 * _DAY, 800 * _DAY, 51 * 366 * _DAY)
"""How far to look back for the latest moment, in turn: a rule by the minute and one by the year both take few steps."""

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_GROUPS = {"daily": "*", "every day": "*", "weekdays": "1-5", "weekends": "0,6"}
_PLAIN = re.compile(r"^(?:(?P<days>[a-z][a-z, -]*?)\s+)?(?:at\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})$")
_DAY_NAMES = {
    **{name: number for number, name in enumerate(_DAYS)},
    "sunday": 0,
    "monday": 1,
    "tuesday": 2,
    "wednesday": 3,
    "thursday": 4,
    "friday": 5,
    "saturday": 6,
}

EXAMPLES = 'for example "weekdays 08:45", "daily 22:00", "mon,wed 9:30", or cron: "45 8 * * 1-5"'


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a timetable wants: to wake or to sleep, since when, and by which of its rules."""

    action: Literal["wake", "sleep"]
    at: float
    rule: str


def check(spec: MachineSpec) -> None:
    """Raises `InvalidInput` naming the field if a zone is unknown, or a rule cannot be read or never comes."""
    _zone(spec.time_zone)
    for field, rules in (("wake_at", spec.wake_at), ("sleep_at", spec.sleep_at)):
        for rule in rules:
            try:
                never = next_after(rule, spec.time_zone, 0.0) is None
            except InvalidInput as error:
                raise InvalidInput(str(error), field=field, hint=EXAMPLES) from error
            if never:
                raise InvalidInput(f"{rule!r} never comes", field=field, hint=EXAMPLES)


def next_after(rule: str, zone: str, now: float) -> float | None:
    """When a rule next comes, seconds since the epoch, later than `now`; None: not in fifty years. Raises
    `InvalidInput`."""
    return next(_moments(rule, zone, now), None)


def due(spec: MachineSpec, last: float, now: float) -> Due | None:
    """What the timetable wants by `now` and did not by `last`: of all that came between, the latest, as it undoes those
    before it. Where both come at once it is to be awake.
    """
    came = [
        Due(action=action, at=at, rule=rule)
        for action, rule in _rules(spec)
        if (at := _latest(rule, spec.time_zone, last, now)) is not None
    ]
    return max(came, key=lambda one: (one.at, one.action == "wake"), default=None)


def next_due(spec: MachineSpec, now: float) -> Due | None:
    """What the timetable wants next, and when; None where there is none."""
    comes = [
        Due(action=action, at=at, rule=rule)
        for action, rule in _rules(spec)
        if (at := next_after(rule, spec.time_zone, now)) is not None
    ]
    return min(comes, key=lambda one: (one.at, one.action == "sleep"), default=None)


def to_cron(rule: str) -> str:
    """A rule as five cron fields. Raises `InvalidInput`; fields are checked only when they are used."""
    text = " ".join(rule.split())
    plain = _PLAIN.match(text.lower())
    if plain is not None:
        hour, minute = int(plain["hour"]), int(plain["minute"])
        if hour > 23 or minute > 59:
            raise InvalidInput(f"{rule!r} names no time of the day", hint=EXAMPLES)
        return f"{minute} {hour} * * {_days(plain['days'] or 'daily', rule)}"
    if len(text.split()) != 5:
        raise InvalidInput(f"{rule!r} is neither days with a time nor five fields of cron", hint=EXAMPLES)
    return text


def _days(words: str, rule: str) -> str:
    if words in _GROUPS:
        return _GROUPS[words]
    numbers: list[int] = []
    for part in re.split(r"\s*,\s*| and ", words):
        ends = [_day(name.strip(), rule) for name in part.split("-")]
        if len(ends) > 2:
            raise InvalidInput(f"{rule!r} has days that are no range", hint=EXAMPLES)
        start, end = ends[0], ends[-1]
        numbers += [(start + i) % 7 for i in range((end - start) % 7 + 1)]
    return ",".join(str(number) for number in sorted(set(numbers)))


def _day(name: str, rule: str) -> int:
    number = _DAY_NAMES.get(name.removesuffix("s") if name.endswith("days") else name)
    if number is None:
        raise InvalidInput(f"{rule!r} names no day that is known", hint=EXAMPLES)
    return number


def _rules(spec: MachineSpec) -> Iterator[tuple[Literal["wake", "sleep"], str]]:
    for rule in spec.wake_at:
        yield "wake", rule
    for rule in spec.sleep_at:
        yield "sleep", rule


def _latest(rule: str, zone: str, last: float, now: float) -> float | None:
    """The latest moment of a rule after `last` and not after `now`. Forward, from further and further back: backwards,
    clocks that change would need rules of their own."""
    for back in _LOOK_BACK_SECONDS:
        start = max(last, now - back)
        found = None
        for moment in _moments(rule, zone, start):
            if moment > now:
                break
            found = moment
        if found is not None or start == last:
            return found
    return None


def _moments(rule: str, zone: str, after: float) -> Iterator[float]:
    """A rule's moments after a moment, each later than the one before. Raises `InvalidInput`."""
    begin = datetime.fromtimestamp(after, _zone(zone))
    try:
        comes = CronSim(to_cron(rule), begin)
    except CronSimError as error:
        raise InvalidInput(f"{rule!r} cannot be read: {error}", hint=EXAMPLES) from error
    latest = after
    for found in comes:
        moment = found.timestamp()
        # Within an hour that comes twice cronsim begins anew at its first pass, and times that fall into one gap
        # come at one moment.
        if moment > latest:
            latest = moment
            yield moment


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # no such key; no key at all; a folder of them
        raise InvalidInput(
            f"there is no time zone {name!r}",
            field="time_zone",
            hint="for example Europe/Berlin, America/New_York, UTC",
        ) from error
