"""What was measured of one world, once it is over: pure, from what `Measures` wrote down and what the market knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dumont.domain.names import label_prefix
from dumont.domain.records import KEPT_DISK
from dumont.domain.snapshots import Snapshot
from dumont.local.market import misfortunes
from dumont.local.market.billing import charges
from dumont.local.market.instance import Instance as MarketInstance
from dumont.local.market.lifecycle import OFFLINE
from tests.benchmarks.bench_control_plane import Use
from tests.report.measures import Measures, Moved, Served
from tests.simulation.world import DEPLOYMENT

PASSED_SECONDS = 2.0
"""Trouble that is over sooner is none: hosts hiccup, and nobody waits for that."""
_STOPS = {misfortunes.EXITED: "stopped", misfortunes.OUTBID: "bid lost", misfortunes.TERM_OVER: "term over"}


@dataclass
class Trouble:
    """What befell a host on which a machine served, and what came of it: seconds from then on, None where it never
    happened. `lost_work_seconds`: how old the files are with which it serves again."""

    kind: str
    suspected_seconds: float | None = None
    fenced_seconds: float | None = None
    recovered_seconds: float | None = None
    lost_work_seconds: float | None = None


@dataclass
class Orphan:
    """A rental that nobody wanted any more, until it was gone."""

    seconds: float
    usd: float


@dataclass
class Findings:
    """Of one world, or of several together."""

    worlds: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    false_failovers: int = 0
    false_and_deaf: int = 0
    """Those of them whose SSH server was dead: with our own functions away, both ways of asking were silent."""
    failovers: int = 0
    orphans: list[Orphan] = field(default_factory=list)
    rentals: int = 0
    billed_usd: float = 0.0
    served_seconds: float = 0.0
    virtual_seconds: float = 0.0
    use: dict[str, Use] = field(default_factory=dict)
    spent_seconds: dict[str, float] = field(default_factory=dict)
    broken: list[int] = field(default_factory=list)
    """Seeds that broke an invariant: what they measured is left out."""

    @property
    def machine_days(self) -> float:
        """How long machines served, in all."""
        return self.served_seconds / 86_400.0

    def used(self) -> Use:
        """Busy and at rest together."""
        total = Use()
        for use in self.use.values():
            total = total.plus(use, 1.0)
        return total

    def add(self, other: Findings) -> None:
        """Take in those of another world."""
        self.worlds += other.worlds
        self.troubles += other.troubles
        self.false_failovers += other.false_failovers
        self.false_and_deaf += other.false_and_deaf
        self.failovers += other.failovers
        self.orphans += other.orphans
        self.rentals += other.rentals
        self.billed_usd += other.billed_usd
        self.served_seconds += other.served_seconds
        self.virtual_seconds += other.virtual_seconds
        self.broken += other.broken
        for name, use in other.use.items():
            self.use[name] = self.use.get(name, Use()).plus(use, 1.0)
        for name, seconds in other.spent_seconds.items():
            self.spent_seconds[name] = self.spent_seconds.get(name, 0.0) + seconds


def found(measures: Measures) -> Findings:
    """What there is to say of a world by now."""
    measures.settle()
    world, now = measures.world, measures.world.hub.now
    moves = [m for m in measures.moved.values() if not m.forced]
    false = [move for move in moves if _is_false(measures, move)]
    suspects = [measures.instance(move.label) for move in false]
    bill = world.market.bill(now)
    seconds = sum(max(0.0, (s.end or now) - max(s.start, measures.began)) for s in measures.served)
    return Findings(
        worlds=1,
        troubles=[t for stretch in measures.served for t in _troubles_of(measures, stretch, moves)],
        false_failovers=len(false),
        false_and_deaf=sum(suspect is not None and suspect.ssh_dead_from is not None for suspect in suspects),
        failovers=sum(move.fenced_at is not None for move in moves),
        orphans=list(_orphans(measures)),
        rentals=len(bill.instances),
        billed_usd=bill.total_usd,
        served_seconds=seconds,
        virtual_seconds=now - measures.began,
        use=measures.use,
        spent_seconds=measures.spent_seconds,
    )


# --- Deaths -------------------------------------------------------------------------------------------------------


def misfortunes_of(instance: MarketInstance) -> list[tuple[float, float, str]]:
    """What befell an instance that nobody on our side ordered: from when, until when, and of what kind."""
    found = [(at, float("inf"), "hung") for at in instance.kills]
    found += [(start, end, "network cut") for start, end in instance.cuts]
    phases = instance.timeline.all()
    for number, phase in enumerate(phases):
        end = phases[number + 1].at if number + 1 < len(phases) else float("inf")
        kind = "offline" if phase.actual == OFFLINE else _STOPS.get(phase.message)
        if kind is not None and number > 0 and phases[number - 1].actual != phase.actual:
            found.append((phase.at, end, kind))
    return sorted(found)


def _troubles_of(measures: Measures, stretch: Served, moves: list[Moved]) -> Iterator[Trouble]:
    """What befell a host while a machine served on it. What befalls a host that is dead already is no second death."""
    instance = measures.instance(stretch.label)
    until = stretch.end if stretch.end is not None else measures.world.hub.now
    mine = [m for m in moves if m.label == stretch.label and stretch.start <= m.suspected_at <= until]
    over_at = 0.0
    for start, end, kind in misfortunes_of(instance) if instance is not None else []:
        if not stretch.start <= start < until or start < over_at or end - start < PASSED_SECONDS:
            continue
        over_at = end
        # A cut that is over may be suspected a moment later: its silence is what is looked at.
        of_it = [m for m in mine if start <= m.suspected_at <= end + 60.0]
        trouble = Trouble(kind)
        if of_it:
            trouble.suspected_seconds = of_it[0].suspected_at - start
        fence = next((m.fenced_at for m in of_it if m.fenced_at is not None), None)
        if fence is not None:
            trouble.fenced_seconds = fence - start
            _recovered(measures, stretch, start, fence, trouble)
        yield trouble


def _recovered(measures: Measures, stretch: Served, died_at: float, fenced_at: float, trouble: Trouble) -> None:
    later = [s for s in measures.served if s.machine == stretch.machine and s.start >= fenced_at]
    again = min(later, key=lambda s: s.start, default=None)
    if again is None:
        return
    trouble.recovered_seconds = again.start - died_at
    record = measures.books.get(again.label)
    has = record.restored_snapshot_id if record is not None else None
    if again.label == stretch.label or has == KEPT_DISK:
        trouble.lost_work_seconds = 0.0
    elif has is not None:
        taken = measures.world.store.quiet.get(Snapshot, has)
        trouble.lost_work_seconds = max(0.0, died_at - taken.created_at) if taken is not None else None
    elif not stretch.stateless:
        trouble.lost_work_seconds = died_at - stretch.start


def _is_false(measures: Measures, move: Moved) -> bool:
    """Whether the host was there, ran its container and was within reach all the while from suspicion to fence. One
    whose agent had died does not serve for long: what it runs ends with its lease."""
    instance = measures.instance(move.label)
    if move.fenced_at is None or instance is None or not move.agent_lived:
        return False
    moments = [move.suspected_at, move.fenced_at, *(p.at for p in instance.timeline.all())]
    moments += [*instance.kills, *instance.network_changes()]
    moments += [moment + 0.001 for moment in moments]
    return all(
        instance.exists(moment) and instance.reaches_out(moment)
        for moment in moments
        if move.suspected_at <= moment <= move.fenced_at
    )


# --- Orphans ------------------------------------------------------------------------------------------------------


def _orphans(measures: Measures) -> Iterator[Orphan]:
    """Each rental's stretches in which nobody wanted it; one that is in no book was never wanted."""
    now = measures.world.hub.now
    for instance in measures.world.market.ever():
        label = instance.label or ""
        if not label.startswith(label_prefix(DEPLOYMENT)):
            continue
        spans = measures.unwanted.get(_key(measures, instance))
        gone_at = min(now, instance.destroyed_at if instance.destroyed_at is not None else now)
        stretches = [(instance.created_at, gone_at)]
        if spans is not None:
            stretches = spans.done + ([(spans.since, gone_at)] if spans.since is not None else [])
        inside = [(max(s, instance.created_at), min(e, gone_at)) for s, e in stretches]
        inside = [(s, e) for s, e in inside if e - s > 1e-6]
        if inside:
            usd = sum(sum(charges(instance, s, e)[:2]) for s, e in inside)
            yield Orphan(sum(e - s for s, e in inside), usd)


def _key(measures: Measures, instance: MarketInstance) -> str:
    """The record that stands for a rental: by its label, or by label and id where that label is another's."""
    both = f"{instance.label}+{instance.id}"
    if both in measures.books:
        return both
    record = measures.books.get(instance.label or "")
    same = record is not None and record.provider_instance_id in (None, str(instance.id))
    return record.id if same and record is not None else both
