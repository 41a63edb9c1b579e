"""The timeline as an SVG picture: a row for each step, a lane for each rental, on one axis of seconds."""

from __future__ import annotations

from html import escape

import msgspec

from dumont.local.demo.report import BETWEEN, Rental, Report, rounded_to_sum


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the picture in its own units; `css_class` says on which screens it is shown."""

    css_class: str
    width: int
    labels: int
    figures: int
    row: int = 24
    ticks: int = 6
    long_names: bool = True


WIDE = Layout(css_class="wide", width=900, labels=165, figures=112)
NARROW = Layout(css_class="narrow", width=380, labels=114, figures=52, ticks=3, long_names=False)


def timeline(report: Report, layout: Layout) -> str:
    """The picture."""
    scale = (layout.width - layout.labels - layout.figures) / max(report.total_seconds, 1e-9)
    parts: list[str] = []
    y = 20
    seconds = rounded_to_sum([step.seconds for step in report.steps], 2)
    shares = rounded_to_sum([step.share * 100 for step in report.steps], 1)
    for place, step in enumerate(report.steps):
        css = "between" if step.name == BETWEEN else "step"
        bars = [(s.start, s.end, css) for s in report.segments if s.name == step.name]
        share = f" · {shares[place]:.1f}%" if layout.long_names else ""
        parts += _row(layout, scale, y, step.name, bars, f"{seconds[place]:.2f} s{share}")
        y += layout.row
    y += 14
    parts.append(f'<text x="0" y="{y + 8}" class="head">The rentals</text>')
    y += 16
    for rental in report.rentals:
        bars = [(phase.start, phase.end, phase.name) for phase in rental.phases]
        lost = "lost the race" if layout.long_names else "lost"
        parts += _row(layout, scale, y, _label(rental, layout), bars, "won" if rental.won else lost)
        y += layout.row
    axis = _axis(report.total_seconds, layout, scale, y)
    what = f"Timeline of {report.total_seconds:.1f} seconds: {len(report.steps)} steps, {len(report.rentals)} rentals"
    return (
        f'<svg class="{layout.css_class}" viewBox="0 0 {layout.width} {y + 24}" role="img" aria-label="{what}">'
        + "".join(axis + parts)
        + "</svg>"
    )


def _label(rental: Rental, layout: Layout) -> str:
    region = rental.region if layout.long_names else rental.region.split(",")[-1].strip()
    return f"{rental.letter} · {region}"


def _row(
    layout: Layout, scale: float, y: int, label: str, bars: list[tuple[float, float, str]], figure: str
) -> list[str]:
    middle = y + 15
    longest = layout.labels // 7
    shown = label if len(label) <= longest else label[: longest - 1] + "…"
    parts = [
        f'<text x="0" y="{middle}">{escape(shown)}</text>',
        f'<rect class="track" x="{layout.labels}" y="{y + 4}" rx="4" height="14" '
        f'width="{layout.width - layout.labels - layout.figures}"/>',
    ]
    for start, end, css in bars:
        x = layout.labels + start * scale
        width = max(2.0, (end - start) * scale)
        x = min(x, layout.width - layout.figures - width)
        title = f"{escape(label)}, {css}: {start:.2f} to {end:.2f} s"
        place = f'x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="14" rx="{min(3.0, width / 2):.1f}"'
        parts.append(f'<rect class="{css}" {place}><title>{title}</title></rect>')
    parts.append(f'<text class="soft" x="{layout.width}" y="{middle}" text-anchor="end">{escape(figure)}</text>')
    return parts


def _axis(total_seconds: float, layout: Layout, scale: float, bottom: int) -> list[str]:
    step = next(
        size for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600, 86400)
        if total_seconds / size <= layout.ticks or size == 86400
    )  # fmt: skip
    parts = []
    at = 0.0
    while at <= total_seconds:
        x = layout.labels + at * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{bottom}"/>')
        anchor = "start" if at == 0 else "middle"
        parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{at:g} s</text>')
        at += step
    return parts
