"""What becomes of an instance, and when: a timeline of phases that is known as far ahead as anything is decided.

An instance's state is a function of its timeline and `now`; so is its bill. A request or a fault cuts the timeline
off at its moment and plans anew from there.
"""

from __future__ import annotations

import bisect
import math
import operator
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

RUNNING = "running"
STOPPED = "stopped"
OFFLINE = "offline"


class Phase(NamedTuple):
    """From a moment on: what Vast.ai says of the instance. `message` empty while loading means the image's pull."""

    at: float
    actual: str | None
    cur: str | None
    intended: str
    message: str = ""

    @property
    def running(self) -> bool:
        """Whether the GPU is billed and the container is up."""
        return self.actual == RUNNING


_AT = operator.itemgetter(0)
"""When a phase begins."""


class Timeline:
    """Phases in order of time; the first one starts when the instance is created."""

    def __init__(self, phases: list[Phase]) -> None:
        self._phases = phases

    def at(self, now: float) -> Phase:
        """The phase at a moment."""
        return self._phases[max(0, bisect.bisect_right(self._phases, now, key=_AT) - 1)]

    def next_change(self, now: float) -> float | None:
        """When the next phase begins, if one is planned."""
        index = bisect.bisect_right(self._phases, now, key=_AT)
        return self._phases[index].at if index < len(self._phases) else None

    def replan(self, now: float, *phases: Phase) -> None:
        """Forget all that was planned after `now` and plan these phases instead, each no earlier than now."""
        keep = max(1, bisect.bisect_right(self._phases, now, key=_AT))
        self._phases = [*self._phases[:keep], *phases]

    def interrupt(self, start: float, phase: Phase, until: float | None) -> None:
        """Put a phase in from `start` on; with `until`, what was planned goes on from then, as much later."""
        before = self.at(start)
        later = [p for p in self._phases if p.at > start]
        self.replan(start, phase._replace(at=start))
        if until is not None:
            self._phases.append(before._replace(at=until))
            self._phases.extend(p._replace(at=p.at + until - start) for p in later)

    def running_since(self, now: float) -> float | None:
        """When the container that runs now was started; None if none runs."""
        since = None
        for phase in reversed(self._phases):
            if phase.at > now:
                continue
            if not phase.running:
                break
            since = phase.at
        return since

    def container_since(self, now: float) -> float | None:
        """The same, but that a host that is offline does not end its container: nobody sees it, and it runs on."""
        since = None
        for phase in reversed(self._phases):
            if phase.at > now:
                continue
            if phase.running:
                since = phase.at
            elif phase.actual != OFFLINE:
                break
        return since

    def come_back(self, now: float, phase: Phase) -> None:
        """Of a host that is offline: let it come back to this phase instead, when it does."""
        following = self.next_change(now)
        self.replan(now, *(() if following is None else (phase._replace(at=following),)))

    def now_says(self, now: float, phase: Phase) -> None:
        """Say this from now on, and leave what is planned as it is."""
        later = [p for p in self._phases if p.at > now]
        self.replan(now, phase, *later)

    def will_run(self, now: float) -> bool:
        """Whether it runs now, or is planned to."""
        return self.at(now).running or any(phase.running for phase in self._phases if phase.at > now)

    def spans(self, start: float, end: float) -> Iterator[tuple[float, float, Phase]]:
        """The stretches of [start, end) with their phases."""
        phases, low = self._phases, start
        index = max(0, bisect.bisect_right(phases, start, key=_AT) - 1)
        while index < len(phases) and low < end:
            phase, index = phases[index], index + 1
            low = max(start, phase.at)
            high = min(end, phases[index].at) if index < len(phases) else end
            if low < high:
                yield low, high, phase

    def lasting(self, start: float, end: float) -> Phase | None:
        """The phase of all of [start, end); None where there are several, or it begins before the first."""
        phases = self._phases
        index = bisect.bisect_right(phases, start, key=_AT)
        return phases[index - 1] if index > 0 and (index == len(phases) or phases[index].at >= end) else None

    def changes(self, start: float, end: float) -> list[float]:
        """When phases begin within (start, end)."""
        return [phase.at for phase in self._phases if start < phase.at < end]

    def first(self, actual: str) -> float | None:
        """When the first phase of a status begins."""
        return next((phase.at for phase in self._phases if phase.actual == actual), None)

    def all(self) -> tuple[Phase, ...]:
        """Every phase, past and planned."""
        return tuple(self._phases)


@dataclass(frozen=True, kw_only=True)
class Durations:
    """How long things take on the market, in seconds, before `time_scale`.

    Boots are a mixture: with a chance of `cached_share` the host has the image already, and the boot is lognormal
    with median 17 s; otherwise the image is pulled, median 75 s. It is fitted to what was seen on real rentals: a
    boot of 72.77 s, single boots of 72–180 s, and about 17 s for the first of several that race. With these figures
    the 10th, 50th and 90th percentiles are about 15, 60 and 115 s, the 99th 181 s; the median of the
    fastest of three is 20 s, of five 16 s.

    Of the others, `slow_share` are hosts that pull slowly, and `never_share` never get there: `boot` is then infinite.
    Both are 0 unless asked for; see `BOOTS`.

    A start of a stopped instance is lognormal with median 12 s, at most 181 s (seen: 5–15 s; other runs 30–47 s;
    worst 180.9 s); a stop lasts 4 s in the median.
    """

    cached_share: float = 0.3
    cached_median: float = 17.0
    cached_sigma: float = 0.35
    pulled_median: float = 75.0
    pulled_sigma: float = 0.4
    slow_share: float = 0.0
    slow_median: float = 300.0
    slow_sigma: float = 0.7
    never_share: float = 0.0
    start_median: float = 12.0
    start_sigma: float = 0.7
    start_most: float = 181.0
    stop_median: float = 4.0
    stop_sigma: float = 0.3

    def boot(self, rng: random.Random) -> float:
        """The time from the create call to `running`; infinite if that never comes."""
        # Nothing is drawn for shares of 0: what a seed gives does not change by there being such shares.
        if self.never_share and rng.random() < self.never_share:
            return math.inf
        if self.slow_share and rng.random() < self.slow_share:
            return self.slow_median * rng.lognormvariate(0.0, self.slow_sigma)
        cached = rng.random() < self.cached_share
        median, sigma = (self.cached_median, self.cached_sigma) if cached else (self.pulled_median, self.pulled_sigma)
        return median * rng.lognormvariate(0.0, sigma)

    def start(self, rng: random.Random) -> float:
        """The time from starting a stopped instance to `running`."""
        return min(self.start_most, self.start_median * rng.lognormvariate(0.0, self.start_sigma))

    def stop(self, rng: random.Random) -> float:
        """The time from stopping a running instance to `exited`, GPU billed."""
        return self.stop_median * rng.lognormvariate(0.0, self.stop_sigma)


BOOTS: Mapping[str, Durations] = {
    "fast": Durations(),
    "real": Durations(slow_share=0.07, never_share=0.05),
}
"""Boot times to choose from. "fast" is the mixture above, in which every boot ends: nobody waits for a bad host.

"real" adds the tail. Nobody publishes it; known are single reports: a cold pull of 16 GB took 165 and 169 s and a warm
one 33 s (RunPod), "loading" that was given up after 10 minutes (dstack's issue 2809) and that lasted hours, 180 s as
the worst of a few dozen. From these its shares are chosen, not measured: 5 in 100 never run, 7 in 100 of the others
take 300 s in the median (one in ten of those more than 12 minutes). With them the median is about 66 s, the 90th
percentile 210 s, and 8 in 100 take more than 5 minutes or for ever; of two that race the 99th percentile of the
faster is 200 s, of three 110 s, of five 80 s.
"""

UNSAID_SHARE = 0.22
"""The share of a boot in which Vast.ai names no status yet (seen: 2 of 8 looks, 10 s apart, "unknown")."""

TYPICAL_BOOT_SECONDS = 60.0
"""After which share of it a boot that never ends begins to say something, before `time_scale`."""

OCI_ERROR = (
    "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create "
    "failed: runc create failed: unable to start container process: error during container init: error running hook "
    '#0: nvidia-container-cli: device error: GPU-0: unknown device: unknown"'
)


def boot_phases(now: float, seconds: float, image: str, runtype: str) -> list[Phase]:
    """A boot as it should be: nothing said, the image's pull, running."""
    return [
        *endless_boot(now, seconds),
        Phase(now + seconds, RUNNING, RUNNING, RUNNING, f"success, running {image.replace(':', '_')}/{runtype}"),
    ]


def endless_boot(now: float, seconds: float) -> list[Phase]:
    """A boot whose image pull never ends; nothing is said for the share of so many seconds."""
    return [
        Phase(now, None, None, RUNNING),
        Phase(now + seconds * UNSAID_SHARE, "loading", RUNNING, RUNNING),
    ]


def broken_boot(now: float, seconds: float) -> list[Phase]:
    """A boot on a host whose GPU cannot be given to a container."""
    return [*endless_boot(now, seconds), Phase(now + seconds, "created", STOPPED, RUNNING, OCI_ERROR)]


def imageless_boot(now: float, seconds: float, image: str) -> list[Phase]:
    """A boot with an image that does not exist."""
    message = f"Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown"
    return [*endless_boot(now, seconds), Phase(now + seconds * 0.4, "loading", RUNNING, RUNNING, message)]


def pull_message(instance_id: int, progress: float) -> str:
    """What docker says of an image's layers when a pull is so far (0–1)."""
    rng = random.Random(instance_id)
    lines = []
    for index in range(4):
        layer = f"{rng.getrandbits(48):012x}"
        done = min(1.0, max(0.0, progress * 4 - index))
        size_mb = rng.uniform(30, 900)
        if done >= 1.0:
            lines.append(f"{layer}: Pull complete")
        elif done > 0.7:
            lines.append(f"{layer}: Extracting {size_mb * done:.1f}MB/{size_mb:.1f}MB")
        elif done > 0.0:
            lines.append(f"{layer}: Downloading {size_mb * done:.1f}MB/{size_mb:.1f}MB")
        else:
            lines.append(f"{layer}: Waiting")
    return "\n".join(lines)
