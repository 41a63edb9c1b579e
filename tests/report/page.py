"""The report as one HTML page: no script, nothing loaded from elsewhere, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from tests.benchmarks import google_prices as prices
from tests.benchmarks.figures import Figure
from tests.report import bills, kept, plots, tables
from tests.report.bills import Month
from tests.report.findings import Findings
from tests.report.fleet import DEATHS_EVERY_HOURS, SWEEP_SECONDS
from tests.report.runs import FAULTS


@dataclass
class Report:
    """All that the page shows."""

    version: str
    day: str
    first_seed: int
    seeds: int
    hours: float
    seconds: float
    taken: dict[str, Findings]
    months: list[Month]
    figures: list[Figure] = field(default_factory=list)

    @property
    def calm(self) -> Findings:
        """All fleets together, whose hosts die and to whom nothing else happens."""
        together = Findings()
        for name, findings in self.taken.items():
            if name != FAULTS:
                together.add(findings)
        return together


def render(report: Report, benchmarks: Path) -> str:
    """The whole page."""
    own = Path(__file__).with_name("style.html").read_text(encoding="utf-8")
    style = files("dumont.local.demo").joinpath("report_style.html").read_text(encoding="utf-8") + own
    calm, faults = report.calm, report.taken[FAULTS]
    sections = [
        _section("How long a death takes to be seen, and to be made good", _deaths(calm, faults)),
        _section("By kind of fault, in calm weather", _kinds(calm)),
        _section("Failovers that need not have been", tables.false_failovers(report.taken)),
        _section("Lost work", _lost(calm, faults)),
        _section("Orphans: what was billed and nobody wanted", _orphans(calm, faults)),
        _section("Operations", tables.operations(report.taken)),
        _section("The control plane’s own bill", _bill(report)),
        _section("Defects that the simulation finds", kept.mutations()),
        _section("Benchmarks", kept.benchmarks(benchmarks)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Dumont: what the simulation measures</title>{style}</head><body><main>"
        "<header><p>Dumont · measured in simulation</p><h1>What a death costs, and what watching costs</h1>"
        f"<p>{_about(report)}</p></header>{_notice()}{_tiles(report)}{''.join(sections)}</main></body></html>\n"
    )


def _about(report: Report) -> str:
    together = report.calm
    together.add(report.taken[FAULTS])
    return escape(
        f"Version {report.version}, {report.day}. Seeds {report.first_seed} to {report.first_seed + report.seeds - 1}; "
        f"fleets of {report.first_seed}. {together.machine_days:,.1f} machine-days of virtual time "
        f"({report.calm.machine_days:,.1f} in calm weather), {report.seconds:.0f} s of real time."
        + (f" {len(together.broken)} seeds broke an invariant and are left out." if together.broken else "")
    )


def _notice() -> str:
    return (
        '<p class="notice"><b>Virtual time, simulated market.</b> The code is the real one; hosts, prices, boots and '
        "deaths are the simulation’s. <b>Histories full of faults</b> pile up in one hour what a year brings: messages "
        "lost, doubled and late, invocations that die, stores and markets that are away. They show what still holds, "
        "and are no forecast. <b>Calm weather</b> has none of that, and hosts that die as hosts do: on an ordinary "
        f"machine once in {DEATHS_EVERY_HOURS:g} hours (chosen: the market’s median host is up 99% of its time; away "
        "an hour at a time, that is once in 100 hours), and for the distributions on others once an hour.</p>"
    )


def _tiles(report: Report) -> str:
    calm = report.calm
    fenced = [t.fenced_seconds for t in calm.troubles if t.fenced_seconds is not None]
    back = [t.recovered_seconds for t in calm.troubles if t.recovered_seconds is not None]
    false = calm.false_failovers
    thousand = next(month for month in report.months if month.machines == 1000)
    shown = [
        (tables.middle(fenced), "from death to fence, median, calm", ""),
        (tables.middle(back), "from death to serving again, median, calm", ""),
        (f"{false} of {calm.failovers}", "failovers were false, calm", "bad" if false else "good"),
        (f"${thousand.total_usd / thousand.machines:.2f}", "control plane a machine a month, of 1,000", ""),
    ]
    tiles = "".join(
        f'<div class="tile"><b class="{css}">{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what, css in shown
    )
    return f'<div class="tiles">{tiles}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _values(findings: Findings, name: str) -> list[float]:
    values: Iterable[float | None] = (getattr(trouble, name) for trouble in findings.troubles)
    return [value for value in values if value is not None]


def _pair(calm: Findings, faults: Findings, name: str) -> dict[str, Sequence[float]]:
    return {"calm weather": _values(calm, name), FAULTS: _values(faults, name)}


def _deaths(calm: Findings, faults: Findings) -> str:
    steps = {"suspected": "suspected_seconds", "fenced": "fenced_seconds", "serving again": "recovered_seconds"}
    parts = []
    for word, name in (("until it is fenced", "fenced_seconds"), ("until it serves again", "recovered_seconds")):
        title = f"From the death of a host {word}"
        parts.append(f"<h3>{title}</h3>")
        parts.append(
            plots.shares(_pair(calm, faults, name), title=title, axis=f"time from the death {word}, logarithmic")
            or "<p>None.</p>"
        )
    rows = {
        f"{world}: {word}": _values(findings, name)
        for world, findings in (("calm", calm), ("full of faults", faults))
        for word, name in steps.items()
    }
    remark = (
        "<small>Death: the moment in which the market’s own record has the host dead, cut off or stopped by its "
        "provider while a machine served on it. Heartbeats come every 5 s in calm weather, 5 or 20 s in histories; "
        f"sweeps every {SWEEP_SECONDS:g} s in calm weather, 7 s in histories. Fenced: from then on the old host is "
        "refused. Serving again includes the wait for the old host’s lease (30 s; up to 300 s in histories), a boot "
        "as on real markets and a restore; what a transfer of gigabytes would take is not in it.</small>"
    )
    return "".join(parts) + tables.percentiles("time from a host’s death", rows) + remark


def _kinds(calm: Findings) -> str:
    names = ("suspected", "fenced", "serving again")
    kinds = sorted({t.kind for t in calm.troubles})
    rows: dict[str, list[plots.Span | None]] = {}
    for kind in kinds:
        mine = Findings(troubles=[t for t in calm.troubles if t.kind == kind])
        values = [_values(mine, f"{name}_seconds") for name in ("suspected", "fenced", "recovered")]
        if any(values):
            rows[f"{kind} ({len(mine.troubles)})"] = [tables.span(v) for v in values]
    axis = "time from the death, logarithmic; bars from the 10th to the 90th percentile, a line at the median"
    return plots.spans(rows, names, title="Detection and recovery by kind of fault", axis=axis) + tables.outcomes(calm)


def _lost(calm: Findings, faults: Findings) -> str:
    title = "How old the files are with which a machine serves again"
    pair = _pair(calm, faults, "lost_work_seconds")
    some = {name: [value for value in values if value > 0.0] for name, values in pair.items()}
    plot = plots.shares(some, title=title, axis="age of what was restored, of those that lost any work; logarithmic")
    kept_all = {name: sum(value == 0.0 for value in values) for name, values in pair.items()}
    words = "; ".join(f"{name}: {kept_all[name]:,} of {len(values):,} lost nothing" for name, values in pair.items())
    remark = (
        f"<p>{escape(words)}: their own disk was there again.</p>"
        "<small>At most: from the snapshot that was restored to the death, whether or not anything was written "
        "meanwhile. In calm weather a snapshot is due each hour, counted anew from when a new host serves: where hosts "
        "die each hour, what is restored is now and then older than that. In histories it is due every 5 or 20 "
        "minutes, by hand, or never.</small>"
    )
    return plot + tables.percentiles("age of what was restored", dict(pair)) + remark


def _orphans(calm: Findings, faults: Findings) -> str:
    seconds = {"calm weather": [o.seconds for o in calm.orphans], FAULTS: [o.seconds for o in faults.orphans]}
    title = "How long rentals outlive their use"
    axis = "time from the moment that nobody wants a rental until it is gone, logarithmic"
    return plots.shares(seconds, title=title, axis=axis) + tables.orphans({"calm weather": calm, FAULTS: faults})


def _bill(report: Report) -> str:
    rows = {f"{m.machines:,}": {k: v / m.machines for k, v in m.usd.items()} for m in report.months}
    rows = {f"{name} machine{'s' * (name != '1')}": parts for name, parts in rows.items()}
    title = "The control plane’s bill a machine a month"
    axis = f"USD a machine a month, list prices of {prices.AS_OF}"
    sources = ", ".join(f'<a class="soft" href="{escape(s)}">{escape(s.split("/")[3])}</a>' for s in prices.SOURCES)
    remark = (
        f"<small>List prices of {prices.AS_OF}: {sources}. Counted in virtual time on a fleet of one machine and on "
        "one of ten that run round the clock (heartbeats each 5 s, a snapshot an hour, ordinary deaths); 1,000 and "
        "10,000 are reckoned from these, linear in the number of machines. Storage, network and logs are not in it. A "
        "request is taken to last as long as its port calls do, 30 ms each in the mean; one at a time on each "
        "instance.</small>"
    )
    return plots.stacked(rows, title=title, axis=axis) + tables.months(report) + remark


def hundred(report: Report) -> tuple[Month, Month] | None:
    """A hundred machines as they were measured, and as one and ten foretell them; None where none were run."""
    findings = report.taken.get("100 machines")
    if findings is None:
        return None
    each, whatever = bills.split(bills.a_month(report.taken["1 machine"]), bills.a_month(report.taken["10 machines"]))
    return bills.month(100, bills.a_month(findings)), bills.month(100, whatever.plus(each, 100))
