"""The demo's report: its figures add up, its pictures show them, and it says what is simulated."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dumont.domain.cloud_prices import CLOUD_PRICES
from dumont.local.demo.recording import Check, Recording, Span
from dumont.local.demo.render_html import render_html
from dumont.local.demo.render_terminal import render
from dumont.local.demo.report import BETWEEN, Report, build, compare, main_path, rounded_to_sum
from dumont.local.demo.run import as_document
from tests.unit.demo_recordings import START, recording

amounts = st.floats(min_value=0, max_value=1e4, allow_nan=False)
spans = st.builds(
    lambda start, length, name: Span(name=name, started_at=start, ended_at=start + length),
    st.floats(min_value=-5, max_value=30),
    st.floats(min_value=0, max_value=20),
    st.sampled_from(["rent", "boot", "ssh"]),
)


@pytest.fixture(scope="module")
def report() -> Report:
    return build(recording())


def text_of(report: Report, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(render(report, paths=("report: build/demo/report.html",)))
    return captured.get()


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_steps_add_up_to_the_whole_time_and_cost(report: Report) -> None:
    assert sum(step.seconds for step in report.steps) == pytest.approx(15.0)
    assert sum(step.share for step in report.steps) == pytest.approx(1.0)
    assert sum(step.cost_usd for step in report.steps) == pytest.approx(report.total_cost_usd)
    assert sum(rental.total_usd for rental in report.rentals) == pytest.approx(report.total_cost_usd)


def test_steps_come_in_the_order_of_the_winners_path(report: Report) -> None:
    assert [step.name for step in report.steps] == [
        "search",
        "rent",
        "boot",
        "ssh",
        "mkdir",
        "write",
        "read back",
        "nvidia-smi",
        "disk",
        "release",
        "use",
        "destroy refused",
        "destroy",
        "confirm gone",
        BETWEEN,
    ]


def test_steps_that_overlap_count_each_moment_once(report: Report) -> None:
    seconds = {step.name: step.seconds for step in report.steps}
    assert seconds["release"] == pytest.approx(1.0)
    assert seconds["use"] == pytest.approx(1.4)  # 1.6, of which the first 0.2 were the release's


def test_a_steps_cost_is_what_all_rentals_billed_meanwhile(report: Report) -> None:
    boot = next(step for step in report.steps if step.name == "boot")
    disks = 3 * 20 * 0.1 / 720 / 3600
    assert boot.cost_usd == pytest.approx(7.4 * disks, rel=0.05)


@given(st.lists(spans, max_size=12))
def test_the_main_path_has_no_gap_and_no_overlap(found: list[Span]) -> None:
    placed = main_path(found, 0.0, 20.0)
    assert placed[0].started_at == 0.0
    assert placed[-1].ended_at == 20.0
    for before, after in pairwise(placed):
        assert before.ended_at == after.started_at
    assert all(span.ended_at > span.started_at for span in placed)


@given(st.lists(amounts, max_size=20), st.integers(min_value=0, max_value=6))
def test_shown_figures_add_up_to_their_shown_total(values: list[float], digits: int) -> None:
    shown = rounded_to_sum(values, digits)
    assert sum(shown) == pytest.approx(round(sum(values), digits), abs=10**-digits * 0.51 + 1e-6)
    assert all(abs(a - b) <= 10**-digits + 1e-6 for a, b in zip(shown, values, strict=True))


def test_each_cloud_is_compared_per_gpu_with_date_and_source() -> None:
    rows = {row.machine_type: row for row in compare(0.31, 3600.0, CLOUD_PRICES)}
    assert {row.cloud for row in rows.values()} == {"AWS", "GCP", "Azure"}
    node = rows["p4d.24xlarge"]
    assert node.usd_per_gpu_hour == pytest.approx(21.957642 / 8)
    assert "÷ 8 GPUs" in node.note
    assert rows["g5.xlarge"].times_dearer == pytest.approx(1.006 / 0.31)
    assert rows["g5.xlarge"].same_time_usd == pytest.approx(1.006)
    for row in rows.values():
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.as_of)
        assert row.source.startswith("https://")


def test_rentals_show_their_phases_and_the_markets_bill(report: Report) -> None:
    won = next(rental for rental in report.rentals if rental.won)
    assert won.letter == "B"
    assert [phase.name for phase in won.phases] == ["rent", "boot", "proof", "serve", "release"]
    assert won.market_usd == pytest.approx(0.000621)
    lost = report.rentals[2]
    assert [phase.name for phase in lost.phases] == ["rent", "boot", "release"]
    assert lost.market_usd is None


def test_one_failed_check_fails_the_report() -> None:
    assert build(recording()).ok
    assert not build(recording(checks=(Check(name="nothing is left running", ok=False),))).ok


def test_a_run_that_broke_off_at_once_still_has_a_report() -> None:
    broken = Recording(
        machine="demo",
        started_at=START,
        ended_at=START + 1,
        demo_seconds=2.0,
        time_scale=0.1,
        spans=(),
        instances=(),
        checks=(Check(name="the job ran to its end", ok=False, seen="no offers"),),
    )
    report = build(broken)
    assert [step.name for step in report.steps] == [BETWEEN]
    assert report.total_cost_usd == 0
    assert "no offers" in text_of(report)
    assert "no offers" in render_html(report)


# --- The document -----------------------------------------------------------------------------------------------------


def test_the_document_has_what_programs_ask_for(report: Report) -> None:
    document = json.loads(as_document(report))
    assert {"name", "seconds", "cost_usd"} <= set(document["steps"][0])
    assert {"name", "ok"} <= set(document["checks"][0])
    assert document["total_seconds"] == pytest.approx(15.0)
    assert document["total_cost_usd"] == pytest.approx(report.total_cost_usd)
    assert document["simulated"] is True


# --- Terminal ---------------------------------------------------------------------------------------------------------


def test_the_terminal_shows_every_part(report: Report) -> None:
    text = text_of(report)
    for shown in ("SIMULATED MARKET", "Boots take 0.1", "nvidia-smi", "49.4%", "$0.000772", "Sweden, SE"):
        assert shown in text
    assert "24.0 MB sent in 2 packs" in text
    for shown in ("A10G", "2026-09-14", "÷ 8 GPUs", "search finds offers", "report: build/demo/report.html"):
        assert shown in text


def test_no_line_is_wider_than_the_terminal(report: Report) -> None:
    assert max(len(line) for line in text_of(report, 90).splitlines()) <= 90


# --- HTML -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page holds: whether its tags close in order, what it loads, what it says."""

    VOID = frozenset({"meta", "br", "rect", "line"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "xlink:href")]
        self.loads += [dict(attrs).get("href") or "" for _ in [0] if tag == "link"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    html = render_html(report)
    page = Page(html)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.tags
    assert "url(" not in html
    assert "@import" not in html
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html


def test_the_page_says_that_the_market_is_simulated(report: Report) -> None:
    assert "Simulated market. No GPU was rented and nothing was paid" in Page(render_html(report)).text


def test_the_page_shows_what_was_saved_only_where_something_was(report: Report) -> None:
    assert "24.0 MB sent in 2 packs" in render_html(report)
    nothing = build(msgspec.structs.replace(recording(), saved=()))
    assert "Saved and restored" not in render_html(nothing)
    assert "Saved and restored" not in text_of(nothing)


def test_the_page_shows_a_bar_for_each_stretch_and_each_racers_phase(report: Report) -> None:
    html = render_html(report)
    wide = html[html.index('<svg class="wide"') : html.index('<svg class="narrow"')]
    bars = wide.count("<title>")
    assert bars == len(report.segments) + sum(len(rental.phases) for rental in report.rentals)


def test_what_machines_write_cannot_write_the_page(report: Report) -> None:
    assert "3.14159 &lt;ok&gt;" in render_html(report)
