"""A month of a machine's life: when it is wanted, heartbeat by heartbeat what it does, and what that costs by the rules
that run in earnest: `domain.idle`, `idle_verdict`, `tiers`, `idle_history`, `timetable`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from dumont.domain import idle_history, tiers, timetable
from dumont.domain.heartbeats import GpuUse, Readings, WorkloadSeen
from dumont.domain.idle import Activity, observe
from dumont.domain.idle_history import IdleHistory
from dumont.domain.idle_verdict import judge
from dumont.domain.specs import MachineSpec
from dumont.domain.tariffs import Tariff
from dumont.domain.tiers import Tier

ZONE = "Europe/Berlin"
BEGIN = datetime(2026, 10, 1, tzinfo=ZoneInfo(ZONE)).timestamp()
END = datetime(2026, 11, 1, tzinfo=ZoneInfo(ZONE)).timestamp()  # its clocks are put back on the 25th
HEARTBEAT_SECONDS = 30.0
LOST, UNTOLD = 0.01, 0.01
"""Shares of heartbeats that never come, and that do not tell all."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@dataclass(frozen=True)
class Work:
    """The machine is wanted from `start` on, for so long; within it the GPU rests for at most `pause_seconds`."""

    start: float
    seconds: float
    pause_seconds: float = 0.0


# --- Three ways to use a machine ----------------------------------------------------------------------------------


def office_hours(chance: random.Random) -> Iterator[Work]:
    """Weekdays from about nine to about six, with lunch and now and then a meeting; experiments with short pauses."""
    for day in _days():
        if day.weekday() >= 5:
            continue
        for begin, end in ((9.0, 12.4), (13.4, 18.0)):
            at = day.timestamp() + (begin + chance.uniform(-0.3, 0.3)) * HOUR
            until = day.timestamp() + (end + chance.uniform(-0.4, 0.4)) * HOUR
            while at < until:
                session = min(chance.uniform(20, 150) * MINUTE, max(until - at, 5 * MINUTE))
                yield Work(at, session, pause_seconds=8 * MINUTE)
                at += session + chance.choice((3, 6, 12, 25, 50)) * MINUTE


def bursty_inference(chance: random.Random) -> Iterator[Work]:
    """A model that is asked at any hour, thrice as often by day; each time for a few minutes."""
    at = BEGIN
    while at < END:
        by_day = 8 <= datetime.fromtimestamp(at, ZoneInfo(ZONE)).hour < 22
        at += chance.expovariate(1 / ((1.5 if by_day else 4.5) * HOUR))
        length = chance.uniform(1, 20) * MINUTE
        yield Work(at, length, pause_seconds=MINUTE)
        at += length


def nightly_batch(chance: random.Random) -> Iterator[Work]:
    """Each night at two, by its timetable, for two to three hours; while it loads data the GPU rests."""
    at = timetable.next_after("daily 02:00", ZONE, BEGIN)
    while at is not None and at < END:
        yield Work(at, chance.uniform(2, 3) * HOUR, pause_seconds=5 * MINUTE)
        at = timetable.next_after("daily 02:00", ZONE, at)


PATTERNS: dict[str, Callable[[random.Random], Iterator[Work]]] = {
    "office hours": office_hours,
    "bursty inference": bursty_inference,
    "nightly batch": nightly_batch,
}


def _days() -> Iterator[datetime]:
    day = datetime.fromtimestamp(BEGIN, ZoneInfo(ZONE))
    while day.timestamp() < END:
        yield day
        day += timedelta(days=1)


def wanted(pattern: str, seed: int) -> list[Work]:
    """The work of the month, one after the other and within it."""
    done: list[Work] = []
    free_at = BEGIN
    for work in PATTERNS[pattern](random.Random(f"{pattern} {seed}")):
        start = max(work.start, free_at)
        if start + work.seconds < END:
            done.append(replace_start(work, start))
            free_at = start + work.seconds
    return done


def replace_start(work: Work, start: float) -> Work:
    """The same work, at another time."""
    return Work(start, work.seconds, work.pause_seconds)


# --- The month by the rules ---------------------------------------------------------------------------------------


@dataclass
class Lived:
    """What a month came to. Money in USD; `waited_seconds` by whoever wanted a machine that slept."""

    usd: float = 0.0
    wakes: int = 0
    waited_seconds: float = 0.0
    refused: int = 0
    asleep_seconds: float = 0.0
    slept_in_use: int = 0
    heartbeats: int = 0
    stretches: list[float] = field(default_factory=list)


class Month:
    """A machine, its bill, and what is known of it."""

    def __init__(self, tariff: Tariff, spec: MachineSpec, *, learning: bool, seed: int) -> None:
        self.tariff = tariff
        self.spec = replace(spec, heartbeat_seconds=HEARTBEAT_SECONDS)
        self.lived = Lived()
        self._learning = learning
        self._history: IdleHistory | None = None
        self._chance = random.Random(seed)
        self._activity: Activity | None = None
        self._boot = 0
        self._sequence = 0
        self._memory_mib = 20_000.0

    def live(self, works: list[Work]) -> Lived:
        """The whole month: work, and what comes between."""
        now = BEGIN
        for work in works:
            now = self._rest(now, work.start)
            now = self._work(work, now)
        self._rest(now, END, wanted=False)
        return self.lived

    def _work(self, work: Work, now: float) -> float:
        """Awake, in use; its pauses are what the window is for."""
        end = now + work.seconds
        serving_since = now
        busy_until = now
        rests_until = now
        while now < end:
            if now >= rests_until and now >= busy_until:
                busy_until = now + self._chance.uniform(1, 10) * MINUTE
                rests_until = busy_until + self._chance.uniform(0, work.pause_seconds)
            self._beat(now, in_use=now < busy_until)
            if judge(self._activity, self.spec, now=now, serving_since=serving_since).idle:
                self.lived.slept_in_use += 1
            step = min(HEARTBEAT_SECONDS, end - now)
            self._bill(Tier.AWAKE, step)
            now += step
        self._beat(now, in_use=True)
        return end

    def _rest(self, now: float, until: float, *, wanted: bool = True) -> float:
        """Unused until then: awake, paused, hibernated as the rules will. When it serves again, if it is wanted."""
        began = now
        while now < until:
            self._beat(now, in_use=False)
            if judge(self._activity, self.spec, now=now).idle:
                choice = self._choose(now - began, now)
                if choice.tier is not Tier.AWAKE:
                    return self._sleep(choice.tier, began, now, until, wanted=wanted)
            step = min(HEARTBEAT_SECONDS, until - now)
            self._bill(Tier.AWAKE, step)
            now += step
        self._learn(until - began, now)
        return now

    def _sleep(self, tier: Tier, began: float, now: float, until: float, *, wanted: bool) -> float:
        self.lived.usd += self.tariff.snapshot_usd
        while now < until:
            choice = self._choose(now - began, now, current=tier)
            if choice.tier is not tier:
                tier = choice.tier
                continue
            due = math.inf if choice.next_at_seconds is None else began + choice.next_at_seconds
            step = min(due, until) - now
            self._bill(tier, step)
            self.lived.asleep_seconds += step
            now += step
        self._learn(until - began, now)
        return self._wake(tier, now) if wanted else now

    def _wake(self, tier: Tier, now: float) -> float:
        tariff = self.tariff
        seconds = tariff.wake_seconds
        resumed = tier is Tier.PAUSE and self._chance.random() < tariff.resume_odds
        if resumed:
            seconds = tariff.resume_seconds
        else:
            self.lived.usd += tariff.download_usd
            self._bill(Tier.AWAKE, seconds)
        if tier is Tier.PAUSE and not resumed:
            self.lived.refused += 1
            seconds += tariff.resume_given_up_seconds  # in vain, and the GPU does not bill
        elif resumed:
            self._bill(Tier.AWAKE, seconds)
        self.lived.wakes += 1
        self.lived.waited_seconds += seconds
        self._boot += 1
        self._sequence = 0
        return now + seconds

    def _choose(self, idle_seconds: float, now: float, current: Tier = Tier.AWAKE) -> tiers.Choice:
        assert self.spec.idle_after_minutes is not None
        return tiers.choose(
            self.tariff,
            self._history if self._learning else None,
            idle_seconds=idle_seconds,
            window_seconds=self.spec.idle_after_minutes * MINUTE,
            now=now,
            current=current,
            wanted=self.spec.sleep_tier,
        )

    def _learn(self, seconds: float, now: float) -> None:
        self.lived.stretches.append(seconds)
        self._history = idle_history.learn(self._history, "bench", seconds=seconds, now=now)

    def _beat(self, now: float, *, in_use: bool) -> None:
        self._sequence += 1
        if self._chance.random() < LOST and not in_use:
            return
        gpu = GpuUse(
            utilization_percent=self._chance.uniform(20, 99) if in_use else 0.0, memory_used_mib=self._memory_mib
        )
        readings = Readings(
            gpus=None if self._chance.random() < UNTOLD else (gpu,),
            cpu_percent=self._chance.uniform(0, 5) + (30 if in_use else 0),
            disk_write_bytes_per_second=self._chance.uniform(0, 50_000),
            network_receive_bytes_per_second=self._chance.uniform(0, 5_000),
            network_send_bytes_per_second=self._chance.uniform(0, 5_000),
            ssh_sessions=0,
            user_processes=0,
        )
        self._activity = observe(
            self._activity,
            readings=readings,
            workload=WorkloadSeen(state="healthy"),
            boot_id=f"boot-{self._boot}",
            sequence=self._sequence,
            received_at=now,
            spec=self.spec,
        )
        self.lived.heartbeats += 1

    def _bill(self, tier: Tier, seconds: float) -> None:
        self.lived.usd += tiers.usd_per_second(self.tariff, tier) * seconds


# --- What it is held against --------------------------------------------------------------------------------------


def always_on_usd(tariff: Tariff) -> float:
    """The month without ever sleeping; no snapshot is needed."""
    return tariff.awake_usd_per_hour * (END - BEGIN) / HOUR


def ideal_usd(tariff: Tariff, works: list[Work]) -> float:
    """The month by one who knows the future: no window, each stretch in the tier that costs least for it, and whoever
    waits for a wake costs nothing."""
    free = replace(tariff, waiting_usd_per_hour=0.0)
    spent, now = 0.0, BEGIN
    for work in works:
        spent += tiers.least_usd(free, max(0.0, work.start - now))
        spent += tiers.usd_per_second(free, Tier.AWAKE) * work.seconds
        now = work.start + work.seconds
    # Nobody comes back from the last stretch: it is left, and not returned to.
    left = (tiers.usd_per_second(free, tier) * (END - now) + (free.snapshot_usd if tier is not Tier.AWAKE else 0.0)
            for tier in tiers.ORDER)  # fmt: skip
    return spent + min(left)
