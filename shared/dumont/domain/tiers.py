"""Awake, paused or hibernated: what an idle machine is to be, by what each costs. Pure. Ski rental with three slopes.

A stretch of idleness of T hours costs, in the state that it ends in, what was paid each hour until then and what it
takes to leave and to come back: awake nothing, paused a snapshot and a resume, hibernated a snapshot and a wake on
another host. (A snapshot is taken before either, so that a paused machine deepens to a hibernated one for nothing: it
is destroyed.) With `E(T)` the least of the three lines "to come back + per hour × T", the future known:

- **Nothing learned**: be at each moment in the state whose line is the lowest (`tier_by_envelope`). What was paid each
  hour is then E(T), coming back costs at most E(T): never more than twice the ideal (Irani, Shukla, Gupta 2003).
- **Learned**: the course with the least expected cost over the histogram of this machine's stretches, given how long
  this one has lasted already (`idle_history`), by backward induction over the histogram's bins. A wrong histogram is
  bounded: each step is taken no earlier than `EARLIEST` and no later than `LATEST` times when the envelope would take
  it. Coming back then costs at most E(T) / `EARLIEST`, what was paid each hour at most E(T) × `LATEST` (E is concave
  and begins at 0): no future costs more than `LEARNED_BOUND` times the ideal.
- **The window** (`idle_after_minutes`) comes first: before idleness is proven a machine is awake, and the ideal that
  both bounds are held against must be so too.
"""

from __future__ import annotations

import enum

import msgspec

from dumont.domain import idle_history
from dumont.domain.idle_history import EDGES, ENOUGH_WEIGHT, IdleHistory
from dumont.domain.tariffs import Row, Tariff

EARLIEST, LATEST = 0.25, 2.0
"""A night is much the same as the night before: to sleep early is worth more trust than to stay awake for longer."""
PLAIN_BOUND = 2.0
LEARNED_BOUND = 1 / EARLIEST + LATEST
NEVER = float("inf")
SLACK_SECONDS = 1e-3
"""What is due so soon is due: a moment that went through a clock and back is off by less than a microsecond, and must
not be found undue when it has come."""


class Tier(enum.StrEnum):
    """How much of a machine is there, from all to its snapshot alone."""

    AWAKE = "awake"
    PAUSE = "pause"
    HIBERNATE = "hibernate"


ORDER = (Tier.AWAKE, Tier.PAUSE, Tier.HIBERNATE)


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """When a stretch of idleness is slept through how: seconds since its beginning; infinity is never.

    A machine that is to hibernate without a pause has both at the same time.
    """

    pause_at_seconds: float
    hibernate_at_seconds: float

    def tier_at(self, seconds: float) -> Tier:
        """What it is to be after so many idle seconds."""
        if seconds >= self.hibernate_at_seconds:
            return Tier.HIBERNATE
        return Tier.PAUSE if seconds >= self.pause_at_seconds else Tier.AWAKE


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What an idle machine is to be now, when that changes if it stays idle, and the arithmetic of it as rows.

    `next_at_seconds` is when, in seconds since the idleness began, `next_tier` is due; None: nothing more changes.
    """

    tier: Tier
    next_tier: Tier | None
    next_at_seconds: float | None
    course: Course
    learned: bool
    rows: tuple[Row, ...]


def choose(
    tariff: Tariff,
    history: IdleHistory | None,
    *,
    idle_seconds: float,
    window_seconds: float,
    now: float,
    current: Tier = Tier.AWAKE,
    wanted: str = "auto",
) -> Choice:
    """What a machine that has been idle for so long is to be, of what it can still become: never less deep than
    `current`. It says so also before the window is over, when it can only be awake.

    `wanted` (a spec's `sleep_tier`): "pause" and "hibernate" are taken when the window is over, whatever they cost; a
    pause still deepens once that pays.
    """
    weights = idle_history.faded(history, now)
    course, learned = plan(tariff, weights, idle_seconds=idle_seconds, window_seconds=window_seconds, current=current)
    if wanted != "auto":
        deep = course.hibernate_at_seconds if wanted == Tier.PAUSE and tariff.may_pause else window_seconds
        course = Course(pause_at_seconds=window_seconds, hibernate_at_seconds=max(deep, window_seconds))
    idle_seconds += SLACK_SECONDS
    tier = _deeper(course.tier_at(idle_seconds), current)
    next_tier, next_at = _next(course, tier, idle_seconds)
    return Choice(
        tier=tier,
        next_tier=next_tier,
        next_at_seconds=next_at,
        course=course,
        learned=learned,
        rows=_rows(tariff, course, weights, learned=learned),
    )


def deepen_at(
    tariff: Tariff, history: IdleHistory | None, *, idle_since: float, now: float, window_seconds: float
) -> float | None:
    """When a paused machine is to be hibernated, seconds since the epoch (it may have passed); None: not at all."""
    choice = choose(
        tariff,
        history,
        idle_seconds=max(0.0, now - idle_since),
        window_seconds=window_seconds,
        now=now,
        current=Tier.PAUSE,
    )
    at = choice.course.hibernate_at_seconds
    return None if at == NEVER else idle_since + at


# --- The future known, and nothing known --------------------------------------------------------------------------


def comes_back_usd(tariff: Tariff, tier: Tier) -> float:
    """What it takes to leave for a tier and come back from it; infinite for one that cannot be had."""
    if tier is Tier.AWAKE:
        return 0.0
    if tier is Tier.PAUSE:
        return tariff.pause_usd if tariff.may_pause else NEVER
    return tariff.hibernate_usd


def usd_per_second(tariff: Tariff, tier: Tier) -> float:
    """What a tier bills while it lasts."""
    if tier is Tier.AWAKE:
        return tariff.awake_usd_per_hour / 3600
    return (tariff.paused_usd_per_hour if tier is Tier.PAUSE else tariff.hibernated_usd_per_hour) / 3600


def least_usd(tariff: Tariff, seconds: float) -> float:
    """E(T): what a stretch of so many seconds costs at least, the future known."""
    return min(comes_back_usd(tariff, tier) + usd_per_second(tariff, tier) * seconds for tier in ORDER)


def ideal_usd(tariff: Tariff, seconds: float, window_seconds: float) -> float:
    """The same for one who must be awake within the window too."""
    awake = min(seconds, window_seconds)
    return usd_per_second(tariff, Tier.AWAKE) * awake + least_usd(tariff, seconds - awake)


def course_usd(tariff: Tariff, course: Course, seconds: float) -> float:
    """What a stretch of so many seconds costs by a course. At its very end it still sleeps, and has to come back."""
    pause_at = min(course.pause_at_seconds, course.hibernate_at_seconds, seconds)
    hibernate_at = min(course.hibernate_at_seconds, seconds)
    spent = usd_per_second(tariff, Tier.AWAKE) * pause_at
    spent += usd_per_second(tariff, Tier.PAUSE) * (hibernate_at - pause_at)
    spent += usd_per_second(tariff, Tier.HIBERNATE) * (seconds - hibernate_at)
    return spent + comes_back_usd(tariff, course.tier_at(seconds))


def course_by_envelope(tariff: Tariff, *, stretched: float = 1.0) -> Course:
    """Each state from the moment on at which its line is the lowest, times `stretched`."""
    hibernate_at = max(_cheaper_after(tariff, tier, Tier.HIBERNATE) for tier in (Tier.AWAKE, Tier.PAUSE))
    pause_at = _cheaper_after(tariff, Tier.AWAKE, Tier.PAUSE)
    if pause_at >= hibernate_at:
        pause_at = hibernate_at  # the pause's line is never the lowest
    return Course(pause_at_seconds=pause_at * stretched, hibernate_at_seconds=hibernate_at * stretched)


def _cheaper_after(tariff: Tariff, shallow: Tier, deep: Tier) -> float:
    """After how many seconds the deeper state's line is no higher than the other's."""
    more_usd = comes_back_usd(tariff, deep) - comes_back_usd(tariff, shallow)
    if comes_back_usd(tariff, shallow) == NEVER or more_usd <= 0:
        return 0.0
    saved = usd_per_second(tariff, shallow) - usd_per_second(tariff, deep)
    return more_usd / saved if saved > 0 and more_usd < NEVER else NEVER


# --- By what was learned ------------------------------------------------------------------------------------------


def plan(
    tariff: Tariff,
    weights: tuple[float, ...],
    *,
    idle_seconds: float = 0.0,
    window_seconds: float = 0.0,
    current: Tier = Tier.AWAKE,
) -> tuple[Course, bool]:
    """The course from `idle_seconds` on, and whether the histogram had a say in it: whether enough stretches of it
    lasted longer than this one has so far."""
    start = max(idle_seconds, window_seconds)
    left = _longer_than(weights, start)
    if sum(weight for _, weight in left) < ENOUGH_WEIGHT:
        return _not_before(course_by_envelope(tariff), window_seconds), False
    moments = [start, *(edge for edge in _moments(tariff, len(weights)) if edge > start)]
    floor = course_by_envelope(tariff, stretched=LATEST)
    ceiling = course_by_envelope(tariff, stretched=EARLIEST)
    best: dict[Tier, float] = dict.fromkeys(ORDER, 0.0)  # what is beyond the last moment is known by nobody
    moves: list[dict[Tier, Tier]] = []
    for place in reversed(range(len(moments))):
        moment = moments[place]
        until = moments[place + 1] if place + 1 < len(moments) else NEVER
        here = _costs_here(tariff, left, moment, until, best)
        best, move = {}, {}
        for tier in ORDER:
            allowed = _allowed(tariff, tier, floor.tier_at(moment), ceiling.tier_at(moment))
            move[tier] = min(allowed, key=lambda to: (here[to], ORDER.index(to)))
            best[tier] = here[move[tier]]
        moves.append(move)
    return _followed(moments, list(reversed(moves)), current), True


def _longer_than(weights: tuple[float, ...], seconds: float) -> list[tuple[float, float]]:
    """(seconds, weight) of the stretches that lasted longer than so many seconds."""
    usual = ((idle_history.usual_seconds(index), weight) for index, weight in enumerate(weights))
    return [(length, weight) for length, weight in usual if weight > 0 and length > seconds]


def _moments(tariff: Tariff, bins: int) -> list[float]:
    """When a change of state may be worth it: the edges of bins, and where the bounds on trust set in."""
    moments = set(EDGES[:bins])
    for stretched in (EARLIEST, 1.0, LATEST):
        course = course_by_envelope(tariff, stretched=stretched)
        moments |= {course.pause_at_seconds, course.hibernate_at_seconds}
    return sorted(moment for moment in moments if moment < NEVER)


def _costs_here(
    tariff: Tariff, left: list[tuple[float, float]], moment: float, until: float, beyond: dict[Tier, float]
) -> dict[Tier, float]:
    """Expected USD from a moment on, in each state, if no state changes before `until`; weighed, not divided."""
    costs = {}
    for tier in ORDER:
        rate, back = usd_per_second(tariff, tier), comes_back_usd(tariff, tier)
        total = beyond[tier]
        for length, weight in left:
            if length > moment:
                total += weight * rate * (min(length, until) - moment)
                total += weight * back if length <= until else 0.0
        costs[tier] = total
    return costs


def _allowed(tariff: Tariff, current: Tier, floor: Tier, ceiling: Tier) -> tuple[Tier, ...]:
    """The states from which to choose: no way back but by waking, and within the bounds on trust."""
    least = max(ORDER.index(current), ORDER.index(floor))
    most = max(ORDER.index(ceiling), least)
    return tuple(t for t in ORDER[least : most + 1] if t is current or comes_back_usd(tariff, t) < NEVER)


def _followed(moments: list[float], moves: list[dict[Tier, Tier]], current: Tier) -> Course:
    entered = {Tier.PAUSE: NEVER, Tier.HIBERNATE: NEVER}
    tier = current
    if tier is not Tier.AWAKE:
        entered[tier] = 0.0
    for moment, move in zip(moments, moves, strict=True):
        if move[tier] is not tier:
            tier = move[tier]
            entered[tier] = moment
    hibernate_at = entered[Tier.HIBERNATE]
    return Course(pause_at_seconds=min(entered[Tier.PAUSE], hibernate_at), hibernate_at_seconds=hibernate_at)


def _not_before(course: Course, seconds: float) -> Course:
    return Course(
        pause_at_seconds=max(course.pause_at_seconds, seconds),
        hibernate_at_seconds=max(course.hibernate_at_seconds, seconds),
    )


# --- What is shown ------------------------------------------------------------------------------------------------


def _deeper(one: Tier, other: Tier) -> Tier:
    return max(one, other, key=ORDER.index)


def _next(course: Course, tier: Tier, idle_seconds: float) -> tuple[Tier | None, float | None]:
    for at, to in ((course.pause_at_seconds, Tier.PAUSE), (course.hibernate_at_seconds, Tier.HIBERNATE)):
        if idle_seconds < at < NEVER and ORDER.index(to) > ORDER.index(tier):
            return course.tier_at(at), at
    return None, None


def _rows(tariff: Tariff, course: Course, weights: tuple[float, ...], *, learned: bool) -> tuple[Row, ...]:
    rows = list(tariff.rows())
    plain = course_by_envelope(tariff)
    rows.append(Row(what="a pause pays after", how="line of the pause crosses awake's", seconds=plain.pause_at_seconds))
    rows.append(
        Row(
            what="hibernation pays after",
            how="line of hibernation crosses the lower of the others'",
            seconds=plain.hibernate_at_seconds,
        )
    )
    how = f"least expected cost over {sum(weights):.1f} stretches" if learned else "nothing learned: break-even"
    rows.append(Row(what="pause at", how=how, seconds=course.pause_at_seconds))
    rows.append(Row(what="hibernate at", how=how, seconds=course.hibernate_at_seconds))
    bound = LEARNED_BOUND if learned else PLAIN_BOUND
    rows.append(Row(what="at most", how="times what the ideal that knows the future pays", times=bound))
    return tuple(rows)
