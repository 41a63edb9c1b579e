"""The tables beside the plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from tests.benchmarks.figures import percentile
from tests.report import bills, plots
from tests.report.findings import Findings
from tests.report.measures import AT_REST, BUSY
from tests.report.plots import duration

if TYPE_CHECKING:
    from tests.report.page import Report

NONE = "–"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is words and whose others are figures."""
    head = "".join(f'<th class="{"n" if i else ""}">{escape(name)}</th>' for i, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f'<td class="{"n" if i else ""}">{escape(cell)}</td>' for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def middle(values: Sequence[float]) -> str:
    """The median of some seconds."""
    return duration(percentile(values, 0.5)) if values else NONE


def span(values: Sequence[float]) -> plots.Span | None:
    """The 10th percentile, the median and the 90th."""
    if not values:
        return None
    return percentile(values, 0.1), percentile(values, 0.5), percentile(values, 0.9)


def percentiles(what: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Seconds: how many there are, and how they are distributed."""
    points = (0.5, 0.9, 0.99)
    return table(
        [what, "count", "p50", "p90", "p99", "most"],
        (
            [name, f"{len(v):,}", *(duration(percentile(v, p)) if v else NONE for p in points),
             duration(max(v)) if v else NONE]
            for name, v in rows.items()
        ),
    )  # fmt: skip


def outcomes(findings: Findings) -> str:
    """By kind of fault: how many there were, and what came of them."""
    kinds = sorted({t.kind for t in findings.troubles})
    rows = []
    for kind in kinds:
        mine = [t for t in findings.troubles if t.kind == kind]
        counts = [
            sum(getattr(t, f"{name}_seconds") is not None for t in mine)
            for name in ("suspected", "fenced", "recovered")
        ]
        rows.append([kind, f"{len(mine):,}", *(f"{count:,}" for count in counts)])
    remark = (
        "<small>Stopped: the container exits and its provider says so. Hung: its processes end, its provider goes on "
        "saying “running”. Offline: its provider says so. Network cut: nothing goes in or out. What was suspected and "
        "not fenced answered again, or was over, before it was confirmed; what did not serve again by the end was "
        "still under way, or its user had it destroyed.</small>"
    )
    return table(["kind of fault", "befell a serving host", "suspected", "fenced", "served again"], rows) + remark


def false_failovers(taken: Mapping[str, Findings]) -> str:
    """Machines that were moved though their host served all the while."""
    rows = []
    for name, findings in taken.items():
        days = findings.machine_days
        if days <= 0.0:
            continue
        # None seen in so many days: with 95% confidence fewer than three in as many ("rule of three").
        rate = f"{findings.false_failovers / days:.3f}" if findings.false_failovers else f"0 (below {3 / days:.2f})"
        rows.append([name, f"{days:,.2f}", f"{findings.failovers:,}", f"{findings.false_failovers:,}", rate])
    deaf = sum(findings.false_and_deaf for findings in taken.values())
    all_false = sum(findings.false_failovers for findings in taken.values())
    why = f"Of hosts whose SSH server had died: {deaf} of {all_false}. " if all_false else ""
    remark = (
        "<small>False: from suspicion to fence the host was there, ran its container and was within reach. Failovers "
        f"that a user asked for are left out. {why}In brackets: with none seen, the rate that 95% confidence leaves "
        "(three in as many days).</small>"
    )
    return table(["", "machine-days", "failovers", "false", "false a machine-day"], rows) + remark


def orphans(taken: Mapping[str, Findings]) -> str:
    """What was billed for rentals that nobody wanted."""
    rows = []
    for name, f in taken.items():
        usd, longest = sum(o.usd for o in f.orphans), [o.seconds for o in f.orphans]
        share = f"{usd / f.billed_usd:.3%}" if f.billed_usd else NONE
        days = f"${usd / f.machine_days:.5f}" if f.machine_days else NONE
        rows.append([
            name, f"{f.rentals:,}", f"{len(f.orphans):,}", middle(longest), duration(max(longest)) if longest else NONE,
            f"${usd:.4f}", share, days,
        ])  # fmt: skip
    columns = ["", "rentals", "ended unwanted", "p50", "longest", "billed so", "of the bill", "a machine-day"]
    remark = (
        "<small>From the moment that neither a machine has a rental nor an open operation keeps it (given back, lost a "
        "race, or a stray that is in no book) until it is gone at the market; by the market’s own meter.</small>"
    )
    return table(columns, rows) + remark


def operations(taken: Mapping[str, Findings]) -> str:
    """Documents, messages and requests by the hour, while some operation is open and while none is."""
    rows = []
    for name, findings in taken.items():
        for state in (BUSY, AT_REST):
            hours = findings.spent_seconds.get(state, 0.0) / 3600
            use = findings.use.get(state)
            if use is None or hours < 0.02:
                continue
            requests = {**use.requests}
            known = [requests.pop(f, 0.0) / hours for f in ("heartbeat", "heartbeat-check", "worker")]
            figures = [use.reads / hours, use.writes / hours, use.deletes / hours, use.messages / hours, *known]
            figures.append(sum(requests.values()) / hours)
            rows.append([f"{name}, {state}", f"{hours:,.1f}", *(_count(f) for f in figures)])
    columns = ["an hour of", "hours", "reads", "writes", "deletes", "messages", "heartbeat", "heartbeat-check",
               "worker", "users’"]  # fmt: skip
    remark = (
        "<small>Documents of Firestore, messages of Pub/Sub and requests by function, in an hour of the whole fleet; "
        "busy while any operation is open. With nothing there, and with all machines asleep, the sweeps’ schedule is "
        "paused: but for a look an hour, nothing runs.</small>"
    )
    return table(columns, rows) + remark


def months(report: Report) -> str:
    """The bills, with what they are made of."""
    from tests.report.page import hundred

    names = list(report.months[0].usd)
    rows = [
        [f"{m.machines:,}", *(f"${m.usd[name]:,.2f}" for name in names), f"${m.total_usd:,.2f}",
         f"${m.total_usd / m.machines:,.2f}", f"${sum(m.usd_less_free.values()):,.2f}"]
        for m in report.months
    ]  # fmt: skip
    for name in ("nothing there", "1 machine asleep"):
        still = bills.month(0, bills.a_month(report.taken[name]))
        rows.append([name, *(f"${still.usd[n]:,.2f}" for n in names), f"${still.total_usd:,.2f}", NONE,
                     f"${sum(still.usd_less_free.values()):,.2f}"])  # fmt: skip
    shown = table(["machines", *names, "a month", "each", "less the free tier"], rows)
    both = hundred(report)
    if both is not None:
        measured, foretold = both
        shown += (
            f"<p>Held against a fleet of 100 that was run: ${measured.total_usd:,.2f} a month measured, "
            f"${foretold.total_usd:,.2f} foretold from one and ten.</p>"
        )
    return shown


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
