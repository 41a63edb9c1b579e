"""The report on a terminal, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dumont.local.demo.recording import Resource
from dumont.local.demo.report import BETWEEN, BILL_REMARK, Report, headline_usd, rounded_to_sum

BAR_CELLS = 30
PHASES = {
    "rent": ("▪", "magenta"),
    "boot": ("▒", "blue"),
    "proof": ("▓", "cyan"),
    "serve": ("█", "green"),
    "release": ("░", "yellow"),
}
"""Each phase's sign and colour: signs of their own, so that it reads without colour, too."""


def notice(report: Report) -> str:
    """What must not be misunderstood: no real rental stands behind these figures."""
    boots = "" if report.time_scale == 1 else f" Boots take {report.time_scale:g} of their real time."
    return (
        "SIMULATED MARKET: no GPU was rented and nothing was paid; machines are local processes with a real SSH "
        f"server.{boots}"
    )


def render(report: Report, *, paths: tuple[str, ...] = ()) -> RenderableType:
    """The whole report."""
    verdict = "every check passed" if report.ok else "SOME CHECKS FAILED"
    head = Text.assemble(
        ("Dumont demo report", "bold"),
        f"  {report.total_seconds:.2f} s, {headline_usd(report.total_cost_usd)}, ",
        (verdict, "bold green" if report.ok else "bold red"),
    )
    parts: list[RenderableType] = [
        Text(),
        head,
        Text(notice(report), style="yellow"),
        *_section("Timeline: search to confirmed gone", _timeline(report)),
        *_section("Race", _race(report)),
        *_section("Resources", _pairs(report.resources)),
        *(_section("Saved and restored", _pairs(report.saved)) if report.saved else []),
        *(_section("The host died", _pairs(report.moved)) if report.moved else []),
        *(_section("Asleep, and woken by a request", _pairs(report.slept)) if report.slept else []),
        *_section("Cost", _rentals(report)),
        Text(BILL_REMARK, style="dim"),
        *_section("The same GPU hour at list price, per GPU", _comparison(report)),
        *(_section("Saved, so far", _pairs(report.savings)) if report.savings else []),
        *_section("Checks", _checks(report)),
    ]
    parts += [Text(path, style="dim") for path in paths]
    return Group(*parts)


def _section(title: str, content: RenderableType) -> list[RenderableType]:
    return [Text(), Text(title, style="bold"), content]


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")


def _bar(start: float, end: float, whole: float, style: str, sign: str = "█") -> Text:
    scale = BAR_CELLS / whole if whole > 0 else 0.0
    first = min(round(start * scale), BAR_CELLS - 1)
    last = min(max(first + 1, round(end * scale)), BAR_CELLS)
    return Text(" " * first) + Text(sign * (last - first), style=style) + Text(" " * (BAR_CELLS - last))


def _timeline(report: Report) -> Table:
    table = _table()
    table.add_column("step", no_wrap=True)
    table.add_column("when", width=BAR_CELLS, no_wrap=True)
    for name in ("seconds", "share", "cost, all rentals"):
        table.add_column(name, justify="right", no_wrap=True)
    seconds = rounded_to_sum([s.seconds for s in report.steps], 2)
    shares = rounded_to_sum([s.share * 100 for s in report.steps], 1)
    usd = rounded_to_sum([s.cost_usd for s in report.steps], 6)
    for place, step in enumerate(report.steps):
        cells = Text(" " * BAR_CELLS)
        style = "bright_black" if step.name == BETWEEN else "blue"
        for segment in report.segments:
            if segment.name == step.name:
                cells = _over(cells, _bar(segment.start, segment.end, report.total_seconds, style))
        row = (f"{seconds[place]:.2f}", f"{shares[place]:.1f}%", f"${usd[place]:.6f}")
        table.add_row(step.name, cells, *row, style="dim" if step.name == BETWEEN else "")
    table.add_section()
    table.add_row("total", "", f"{sum(seconds):.2f}", "100.0%", f"${sum(usd):.6f}", style="bold")
    return table


def _over(below: Text, above: Text) -> Text:
    result = Text()
    for place in range(BAR_CELLS):
        result += above[place] if above.plain[place] != " " else below[place]
    return result


def _race(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for rental in report.rentals:
        cells = Text(" " * BAR_CELLS)
        for phase in rental.phases:
            sign, style = PHASES[phase.name]
            cells = _over(cells, _bar(phase.start, phase.end, report.total_seconds, style, sign))
        outcome = Text("won", style="bold green") if rental.won else Text("lost, destroyed", style="dim")
        table.add_row(Text(rental.letter, style="bold"), cells, rental.gpu, rental.region, outcome)
    legend = Text()
    for name, (sign, style) in PHASES.items():
        legend += Text(f"{sign} ", style=style) + Text(f"{name}  ")
    return Group(table, Text("   ") + legend)


def _pairs(lines: Sequence[Resource]) -> Table:
    table = Table.grid(padding=(0, 2))
    for resource in lines:
        table.add_row(Text(resource.name, style="dim"), resource.value)
    return table


def _rentals(report: Report) -> Table:
    table = _table()
    table.add_column("rental", no_wrap=True)
    for name in ("rate", "GPU", "disk", "together", "market's own bill"):
        table.add_column(name, justify="right", no_wrap=True)
    for rental in report.rentals:
        bill = "not read" if rental.market_usd is None else f"${rental.market_usd:.6f}"
        table.add_row(
            f"{rental.letter}{' (won)' if rental.won else ''}",
            f"${rental.usd_per_hour:.4f}/h",
            f"${rental.gpu_usd:.6f}",
            f"${rental.storage_usd:.6f}",
            f"${rental.total_usd:.6f}",
            bill,
        )
    bills = [rental.market_usd for rental in report.rentals if rental.market_usd is not None]
    table.add_section()
    table.add_row(
        "total",
        "",
        f"${sum(r.gpu_usd for r in report.rentals):.6f}",
        f"${sum(r.storage_usd for r in report.rentals):.6f}",
        f"${report.total_cost_usd:.6f}",
        f"${sum(bills):.6f}" if bills else "",
        style="bold",
    )
    return table


def _comparison(report: Report) -> Table:
    table = _table()
    for name in ("where", "GPU"):
        table.add_column(name)
    for name in ("per GPU hour", "times dearer", "list price of"):
        table.add_column(name, justify="right", no_wrap=True)
    if report.gpu_usd_per_gpu_hour is not None:
        gpu = next((r.gpu for r in report.rentals if r.won), "")
        table.add_row("Dumont", gpu, f"${report.gpu_usd_per_gpu_hour:.4f}", "", "simulated", style="bold green")
    notes = [row.note for row in report.comparison if row.note]
    for row in report.comparison:
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        table.add_row(
            f"{row.cloud} {row.machine_type}{mark}",
            row.gpu,
            f"${row.usd_per_gpu_hour:.4f}",
            f"{row.times_dearer:.1f}×",
            row.as_of,
        )
    table.caption = "\n".join(f"[{place}] {note}" for place, note in enumerate(notes, 1)).replace("[", r"\[")
    table.caption_justify = "left"
    return table


def _checks(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    for check in report.checks:
        mark = Text("ok", style="green") if check.ok else Text("FAILED", style="bold red")
        table.add_row(mark, check.name, Text(check.seen, style="dim"))
    return table


def print_report(report: Report, *, paths: tuple[str, ...] = ()) -> None:
    """Print the report on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print(render(report, paths=paths))
