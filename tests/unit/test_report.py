"""What the simulation measures, and the page that shows it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from dumont.local.market.faults import Fault
from tests.benchmarks import google_prices as prices
from tests.benchmarks.bench_control_plane import Use, month_usd
from tests.report import bills, fleet, plots
from tests.report.findings import Findings, Trouble, found
from tests.report.fleet import Plan
from tests.report.make import as_json, figures_of
from tests.report.measures import Measures
from tests.report.page import Report, render
from tests.report.runs import FAULTS
from tests.simulation import history
from tests.simulation.world import World

SEED = 6000002


class Page(HTMLParser):
    """Which elements a page has; raises if one is not closed, or not the one that is open."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link", "line", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.labels: list[str] = []
        self.loaded: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        if tag == "svg":
            self.labels.append(named.get("aria-label") or "")
        self.loaded += [value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)


def lived(*, watched: bool) -> tuple[object, ...]:
    """What can be told of a history: when it ended, what happened in it, what each task called, and what it cost."""
    worlds: list[World] = []
    measures = Measures()

    def watch(world: World) -> None:
        worlds.append(world)
        if watched:
            measures.watch(world)

    history.run(SEED, watch=watch)
    world = worlds[0]
    bill = world.market.bill(world.hub.now)
    return world.hub.now, world.hub.events, world.hub.port_calls, world.hub.counted, bill, world.hub.rng.random()


def test_a_history_goes_on_as_it_would_have_while_it_is_measured() -> None:
    assert lived(watched=True) == lived(watched=False)


def one_death(kind: str, after_seconds: float) -> tuple[Findings, float]:
    """A machine whose host dies once, at a known moment; and that moment."""
    died_at: list[float] = []

    def befall(world: World) -> None:
        serving = world.market.live(world.hub.now)[0]
        world.market.inject(Fault(kind=kind, instance_id=serving.id), world.hub.now)
        died_at.append(world.hub.now)
        world.changed = True
        world.agents.look()

    def begun(world: World, measures: Measures) -> None:
        world.hub.after(after_seconds, lambda: befall(world))
        kept.append(measures)

    kept: list[Measures] = []
    findings = fleet.live(Plan("scripted", 1, 1.0, 3, None), begun=begun)
    fenced_at = next(m.fenced_at for m in kept[0].moved.values() if m.fenced_at is not None)
    return findings, fenced_at - died_at[0]


@pytest.mark.parametrize("kind", ["hung", "dies"])
def test_a_death_at_a_known_moment_is_measured_from_that_moment(kind: str) -> None:
    findings, seconds = one_death(kind, 601.25)
    assert [t.kind for t in findings.troubles] == [{"hung": "hung", "dies": "stopped"}[kind]]
    trouble = findings.troubles[0]
    assert trouble.suspected_seconds is not None
    assert trouble.fenced_seconds == seconds
    assert trouble.recovered_seconds is not None
    assert 2.5 < trouble.suspected_seconds < seconds < trouble.recovered_seconds < 400.0
    assert findings.failovers == 1
    assert findings.false_failovers == 0
    # It came back with the snapshot that was taken half an hour before it was measured, or with its own disk.
    if kind == "dies":
        assert trouble.lost_work_seconds == 0.0
    else:
        assert trouble.lost_work_seconds == pytest.approx(1800.0 + 601.25, abs=60.0)


def test_a_machine_that_lives_in_peace_has_no_deaths_and_its_heartbeats_are_counted() -> None:
    findings = fleet.live(Plan("peace", 1, 0.5, 5, None))
    assert findings.troubles == []
    assert findings.failovers == 0
    assert findings.served_seconds == pytest.approx(1800.0)
    assert findings.used().requests["heartbeat"] == pytest.approx(360, abs=2)
    assert findings.used().requests["heartbeat-check"] == pytest.approx(31, abs=1), "one a minute, and one an hour"
    assert sum(findings.spent_seconds.values()) == pytest.approx(1800.0)


def test_while_nothing_is_there_a_look_an_hour_is_all_that_is_paid_for() -> None:
    findings = fleet.live(Plan("nothing there", 1, 24.0, 5, None, "destroyed"))
    used = findings.used()
    assert used.requests == {"heartbeat-check": pytest.approx(24, abs=1)}
    assert used.messages == 0
    assert used.reads < 24 * 50
    assert findings.virtual_seconds == 86_400.0
    month = month_usd(bills.a_month(findings), free=False)
    assert month.pop("Scheduler") == 2 * prices.SCHEDULER_JOB_PER_MONTH
    assert sum(month.values()) < 0.03
    assert sum(month_usd(bills.a_month(findings), free=True).values()) == 0.0


def test_a_bill_grows_by_what_each_machine_uses() -> None:
    one, ten = Use(reads=150.0, requests={"worker": 10.0}), Use(reads=600.0, requests={"worker": 100.0})
    each, whatever = bills.split(one, ten)
    assert (each.reads, whatever.reads) == (50.0, 100.0)
    assert (each.requests["worker"], whatever.requests["worker"]) == (10.0, 0.0)
    assert [month.use.reads for month in bills.months(one, ten)] == [150.0, 600.0, 50_100.0, 500_100.0]


def test_no_machine_gives_anything_back() -> None:
    """Ten swept in less time than one is chance: ten thousand are not swept in less than no time."""
    one = Use(reads=100.0, seconds={"heartbeat-check": 2_446_882.0}, requests={"heartbeat-check": 43_000.0})
    ten = Use(reads=1_000.0, seconds={"heartbeat-check": 2_428_023.0}, requests={"heartbeat-check": 43_000.0})
    for month in bills.months(one, ten):
        assert month.use.seconds["heartbeat-check"] == 2_446_882.0
        assert month.use.reads == pytest.approx(100.0 * month.machines)


def test_deletes_have_their_price() -> None:
    assert month_usd(Use(deletes=100_000.0), free=False)["Firestore"] == pytest.approx(0.01)
    assert month_usd(Use(deletes=100_000.0), free=True)["Firestore"] == 0.0


def test_seconds_are_told_in_the_unit_that_suits_them() -> None:
    told = [plots.duration(seconds) for seconds in (0.5, 3.0, 61.0, 600.0, 5000.0, 7200.0)]
    assert told == ["0.5 s", "3 s", "61 s", "10 min", "83.3 min", "2 h"]


def report() -> Report:
    """A small one, of made-up findings."""
    use = {"busy": Use(reads=10.0, requests={"worker": 2.0}, seconds={"worker": 1.0})}
    hour = {"busy": 3600.0, "at rest": 0.0}
    troubles = [Trouble("hung", 5.0 + n, 8.0 + n, 60.0 + n, 900.0 * (n % 2)) for n in range(9)]
    taken = {
        name: Findings(1, troubles, 0, 0, 9, [], 9, 1.0, 86_400.0, 3600.0, use, hour)
        for name in (FAULTS, "1 machine", "10 machines", "nothing there", "1 machine asleep")
    }
    months = bills.months(Use(reads=1e6, writes=1e6), Use(reads=2e6, writes=8e6))
    made = Report("1.2.3", "2026-11-22", 7, 60, 3.0, 12.0, taken, months)
    made.figures = figures_of(made)
    return made


def test_the_page_is_well_formed_and_has_its_plots_and_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(
        '{"figures": [{"name": "a <figure>", "value": 2.5, "unit": "s", "goal": 2.0, "met": false}]}'
    )
    text = render(report(), tmp_path)
    page = Page(text)
    assert page.labels == [
        "From the death of a host until it is fenced",
        "From the death of a host until it serves again",
        "Detection and recovery by kind of fault",
        "How old the files are with which a machine serves again",
        "The control plane’s bill a machine a month",
    ]
    assert page.loaded == []
    assert "script" not in page.tags
    assert "a &lt;figure&gt;" in text
    assert "missed" in text
    assert "Version 1.2.3, 2026-11-22. Seeds 7 to 66" in text


def test_a_page_without_any_death_says_so(tmp_path: Path) -> None:
    made = report()
    for findings in made.taken.values():
        findings.troubles = []
    assert "<p>None.</p>" in render(made, tmp_path)
    Page(render(made, tmp_path))


def test_the_figures_name_what_they_are_of() -> None:
    made = report()
    figures = {figure.name: figure.value for figure in made.figures}
    assert figures["faults: a host's death, fenced, p50"] == 12.0
    assert figures["control plane, 1 machines for a month"] == pytest.approx(0.3 + 0.9 + 0.2)
    assert as_json(made)["worlds"][FAULTS]["troubles"][0]["kind"] == "hung"


def test_a_seed_is_measured_as_often_as_asked_and_alike() -> None:
    def once() -> Findings:
        measures = Measures()
        history.run(SEED, watch=measures.watch)
        return found(measures)

    assert once() == once()
