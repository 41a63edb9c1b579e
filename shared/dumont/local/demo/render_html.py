"""The report as one HTML page: no script, nothing loaded from elsewhere, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from dumont.local.demo.recording import Resource
from dumont.local.demo.report import BETWEEN, BILL_REMARK, Report, headline_usd, rounded_to_sum
from dumont.local.demo.timeline_svg import NARROW, WIDE, timeline

_LEGEND = ("rent", "boot", "proof", "serve", "release")


def render_html(report: Report) -> str:
    """The whole page."""
    style = files("dumont.local.demo").joinpath("report_style.html").read_text(encoding="utf-8")
    day = datetime.fromtimestamp(report.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    written = f"<pre>{escape(chr(10).join(report.output))}</pre>" if report.output else ""
    sections = [
        _section("Timeline", _timeline(report)),
        _section("Steps", _steps(report)),
        _section("Resources", _pairs(report.resources)),
        _section("Saved and restored", _pairs(report.saved)),
        _section("The host died", _pairs(report.moved)),
        _section("Asleep, and woken by a request", _pairs(report.slept)),
        _section("Cost", _rentals(report)),
        _section("The same GPU hour elsewhere, per GPU", _comparison(report)),
        _section("Saved, so far", _pairs(report.savings)),
        _section("Checks", _checks(report)),
        _section("What the machine wrote", written),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Dumont demo report</title>{style}</head><body><main>"
        "<header><p>Dumont · demo report</p><h1>A GPU rented, proven, used, saved, lost, replaced, "
        "put to sleep, woken and given back</h1>"
        f"<p>{day}, machine “{escape(report.machine)}”</p></header>"
        f"{_notice(report)}{_tiles(report)}{''.join(sections)}"
        "</main></body></html>\n"
    )


def _notice(report: Report) -> str:
    boots = "" if report.time_scale == 1 else f" Boots take {report.time_scale:g} of their real time."
    return (
        '<p class="notice"><b>Simulated market.</b> No GPU was rented and nothing was paid: the machines are local '
        f"processes with a real SSH server.{boots} Dumont’s own code is what rents for real.</p>"
    )


def _tiles(report: Report) -> str:
    passed = sum(check.ok for check in report.checks)
    tiles = [
        (f"{report.total_seconds:.1f} s", "search to confirmed gone", ""),
        (headline_usd(report.total_cost_usd), f"all {len(report.rentals)} rentals of its races", ""),
        (f"{passed} of {len(report.checks)}", "checks passed", "good" if report.ok else "bad"),
    ]
    if report.gpu_usd_per_gpu_hour is not None:
        tiles.insert(2, (f"${report.gpu_usd_per_gpu_hour:.3f}/h", "for the GPU that won", ""))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b class="{css}">{escape(figure)}</b><span>{escape(what)}</span></div>'
            for figure, what, css in tiles
        )
        + "</div>"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _timeline(report: Report) -> str:
    legend = "".join(f'<span><i class="{name}"></i>{name}</span>' for name in _LEGEND)
    return f'{timeline(report, WIDE)}{timeline(report, NARROW)}<div class="legend">{legend}</div>'


def _steps(report: Report) -> str:
    seconds = rounded_to_sum([s.seconds for s in report.steps], 2)
    shares = rounded_to_sum([s.share * 100 for s in report.steps], 1)
    usd = rounded_to_sum([s.cost_usd for s in report.steps], 6)
    rows = [
        _row([step.name, f"{seconds[i]:.2f}", f"{shares[i]:.1f}%", f"${usd[i]:.6f}"], "soft" * (step.name == BETWEEN))
        for i, step in enumerate(report.steps)
    ]
    rows.append(_row(["total", f"{sum(seconds):.2f}", "100.0%", f"${sum(usd):.6f}"], "total"))
    return _table(["step", "seconds", "share", "cost of all rentals"], rows)


def _pairs(lines: Sequence[Resource]) -> str:
    if not lines:
        return ""
    return "<dl>" + "".join(f"<dt>{escape(r.name)}</dt><dd>{escape(r.value)}</dd>" for r in lines) + "</dl>"


def _rentals(report: Report) -> str:
    rows = []
    for rental in report.rentals:
        bill = "not read" if rental.market_usd is None else f"${rental.market_usd:.6f}"
        figures = [f"${rental.gpu_usd:.6f}", f"${rental.storage_usd:.6f}", f"${rental.total_usd:.6f}", bill]
        rate = f"${rental.usd_per_hour:.4f}/h in {rental.region}"
        outcome = " · won" if rental.won else ""
        rows.append(_row([f"{rental.letter} · {rental.gpu}{outcome}", *figures], "", small=rate))
    kinds = [sum(r.gpu_usd for r in report.rentals), sum(r.storage_usd for r in report.rentals), report.total_cost_usd]
    bills = [r.market_usd for r in report.rentals if r.market_usd is not None]
    figures = [*(f"${usd:.6f}" for usd in kinds), f"${sum(bills):.6f}" if bills else ""]
    rows.append(_row(["total", *figures], "total"))
    return _table(["rental", "GPU", "disk", "together", "the market's bill"], rows) + f"<small>{BILL_REMARK}</small>"


def _comparison(report: Report) -> str:
    ours = report.gpu_usd_per_gpu_hour
    if ours is None or not report.comparison:
        return ""
    dearest = max(ours, *(row.usd_per_gpu_hour for row in report.comparison))
    gpu = next((rental.gpu for rental in report.rentals if rental.won), "")
    rows = [_price_row("Dumont", gpu, "simulated market", ours, dearest, "", "ours")]
    for row in report.comparison:
        source = f'list price of {row.as_of}, <a href="{escape(row.source)}" class="soft">source</a>'
        note = f"<small>{escape(row.note)}</small>" if row.note else ""
        times = f"{row.times_dearer:.1f}×"
        where = f"{row.cloud} {row.machine_type}"
        rows.append(_price_row(where, row.gpu, source + note, row.usd_per_gpu_hour, dearest, times, ""))
    head = '<tr><th>where</th><th class="n">per GPU hour</th><th class="n">dearer</th><th class="hide"></th></tr>'
    remark = (
        "<small>List prices on demand, whole node ÷ its GPUs. The GPUs differ: an RTX 4090 is no A100. A race also "
        "pays for its losers' boots, which the cost above includes.</small>"
    )
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>{remark}'


def _price_row(where: str, gpu: str, source: str, usd: float, dearest: float, times: str, css: str) -> str:
    bar = f'<div class="bar"><i style="width:{usd / dearest * 100:.1f}%"></i></div>'
    return (
        f'<tr class="{css}"><td>{escape(where)} · {escape(gpu)}<small>{source}</small></td>'
        f'<td class="n">${usd:.3f}</td><td class="n">{times}</td><td class="hide">{bar}</td></tr>'
    )


def _checks(report: Report) -> str:
    items = []
    for check in report.checks:
        css, mark = ("good", "✓") if check.ok else ("bad", "✗")
        seen = f"<small>{escape(check.seen)}</small>" if check.seen else ""
        verdict = "" if check.ok else " — failed"
        items.append(f'<li><span class="{css}">{mark}</span><div>{escape(check.name)}{verdict}{seen}</div></li>')
    return f"<ul>{''.join(items)}</ul>"


def _table(columns: list[str], rows: list[str]) -> str:
    head = "".join(f'<th class="{"n" if i else ""}">{escape(name)}</th>' for i, name in enumerate(columns))
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(cells: list[str], css: str, *, small: str = "") -> str:
    under = f"<small>{escape(small)}</small>" if small else ""
    first, *rest = cells
    return (
        f'<tr class="{css}"><td>{escape(first)}{under}</td>'
        + "".join(f'<td class="n">{escape(cell)}</td>' for cell in rest)
        + "</tr>"
    )
