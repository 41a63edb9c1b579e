"""Plots as SVG: distributions and bars, with axes that name their units. Colours are the page's, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from tests.benchmarks.figures import percentile

WIDTH, LEFT, RIGHT, TOP = 900, 150, 24, 12
HUES = ("hue-a", "hue-b", "hue-c", "hue-d", "hue-e", "hue-f")
TICKS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10_800.0, 36_000.0, 86_400.0)
Span = tuple[float, float, float]
"""Of a bar: where it begins, its middle, where it ends."""


def duration(seconds: float) -> str:
    """Seconds for a person: 4.2 s, 1 min 40 s, 3.2 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 5400.0:
        return f"{seconds / 60:.1f} min".replace(".0 min", " min")
    return f"{seconds / 3600:.1f} h".replace(".0 h", " h")


class LogAxis:
    """Seconds on a logarithmic axis, from a little below the least to a little above the most."""

    def __init__(self, values: Sequence[float], left: float, right: float) -> None:
        floored = [max(value, 0.1) for value in values]
        self.low = max((t for t in TICKS if t <= min(floored)), default=TICKS[0])
        self.high = min((t for t in TICKS if t >= max(floored)), default=max(floored))
        if self.high <= self.low:
            self.high = self.low * 3
        self._left, self._right = left, right

    def x(self, value: float) -> float:
        """Where a value is."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self._left + min(1.0, share) * (self._right - self._left)

    def grid(self, top: float, bottom: float, title: str) -> list[str]:
        """Lines, their labels, and below them what the axis is."""
        parts = []
        for tick in [t for t in TICKS if self.low <= t <= self.high]:
            x = self.x(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
            parts.append(
                f'<text class="soft" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{duration(tick)}</text>'
            )
        middle = (self._left + self._right) / 2
        parts.append(
            f'<text class="soft" x="{middle:.0f}" y="{bottom + 38}" text-anchor="middle">{escape(title)}</text>'
        )
        return parts


def shares(series: Mapping[str, Sequence[float]], *, title: str, axis: str) -> str:
    """Cumulative distributions: for each number of seconds, the share that took no longer. Empty series are left
    out; with none at all there is no plot."""
    series = {name: sorted(values) for name, values in series.items() if values}
    if not series:
        return ""
    left, bottom = 52, 250
    scale = LogAxis([value for values in series.values() for value in values], left, WIDTH - RIGHT)
    parts = scale.grid(TOP, bottom, axis)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - TOP)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for number, (name, values) in enumerate(series.items()):
        hue = HUES[number % len(HUES)]
        points = [f"M{scale.x(values[0]):.1f} {bottom}"]
        for place, value in enumerate(values, 1):
            points.append(f"H{scale.x(value):.1f}V{bottom - place / len(values) * (bottom - TOP):.1f}")
        points.append(f"H{WIDTH - RIGHT}")
        told = (
            f"{name}: half within {duration(percentile(values, 0.5))}, 95% within {duration(percentile(values, 0.95))}"
        )
        parts.append(f'<path class="curve {hue}" d="{"".join(points)}"><title>{escape(told)}</title></path>')
    names = {f"{name} ({len(values):,})": HUES[n % len(HUES)] for n, (name, values) in enumerate(series.items())}
    return _figure(title, bottom + 46, parts) + legend(names)


def spans(rows: Mapping[str, Sequence[Span | None]], series: Sequence[str], *, title: str, axis: str) -> str:
    """For each row some bars on one axis of seconds, each from its first value to its last with a line at its
    middle."""
    present = [span for bars in rows.values() for span in bars if span is not None]
    if not present:
        return ""
    height = 14 * len(series) + 14
    bottom = TOP + height * len(rows)
    scale = LogAxis([value for span in present for value in span], LEFT, WIDTH - 90)
    parts = scale.grid(TOP, bottom, axis)
    for number, (name, bars) in enumerate(rows.items()):
        y = TOP + number * height + 7
        parts.append(f'<text x="0" y="{y + height / 2 - 3:.1f}">{escape(name)}</text>')
        for place, span in enumerate(bars):
            if span is None:
                continue
            start, middle, end = (scale.x(value) for value in span)
            wide, top = max(3.0, end - start), y + place * 14
            told = f"{name}, {series[place]}: " + " to ".join(duration(v) for v in (span[0], span[2]))
            told += f", median {duration(span[1])}"
            parts.append(
                f'<rect class="{HUES[place]}" x="{start:.1f}" y="{top:.1f}" width="{wide:.1f}" height="10" rx="3" '
                f'opacity=".55"><title>{escape(told)}</title></rect>'
                f'<rect class="{HUES[place]}" x="{min(middle, start + wide - 3):.1f}" y="{top - 1:.1f}" width="3" '
                'height="12"/>'
                f'<text class="soft small" x="{start + wide + 6:.1f}" y="{top + 9:.1f}">{duration(span[1])}</text>'
            )
    return _figure(title, bottom + 46, parts) + legend({name: HUES[n] for n, name in enumerate(series)})


def stacked(rows: Mapping[str, Mapping[str, float]], *, title: str, axis: str) -> str:
    """Bars that are put together of parts, in USD from 0 on."""
    totals = {name: sum(parts.values()) for name, parts in rows.items()}
    most = max(totals.values(), default=0.0)
    if most <= 0.0:
        return ""
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000) if most / s <= 8 or s == 10_000)
    high = math.ceil(most / step) * step
    bottom, right = TOP + 34 * len(rows), WIDTH - 90
    names = list(dict.fromkeys(part for parts in rows.values() for part, usd in parts.items() if usd >= 0.005))
    parts = []
    for number in range(round(high / step) + 1):
        x = LEFT + number * step / high * (right - LEFT)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">${number * step:g}</text>')
    parts.append(
        f'<text class="soft" x="{(LEFT + right) / 2:.0f}" y="{bottom + 38}" text-anchor="middle">{escape(axis)}</text>'
    )
    for row, (name, pieces) in enumerate(rows.items()):
        x, y = float(LEFT), TOP + row * 34 + 7
        parts.append(f'<text x="0" y="{y + 15}">{escape(name)}</text>')
        for part in names:
            wide = pieces.get(part, 0.0) / high * (right - LEFT)
            told = f"{name}, {part}: ${pieces.get(part, 0.0):,.2f}"
            parts.append(
                f'<rect class="{HUES[names.index(part)]}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="20">'
                f"<title>{escape(told)}</title></rect>"
            )
            x += wide
        parts.append(f'<text class="soft" x="{x + 6:.1f}" y="{y + 15}">${totals[name]:,.2f}</text>')
    return _figure(title, bottom + 46, parts) + legend({name: HUES[n] for n, name in enumerate(names)})


def legend(names: Mapping[str, str]) -> str:
    """Which colour is what."""
    items = "".join(f'<span><i class="{hue}"></i>{escape(name)}</span>' for name, hue in names.items())
    return f'<div class="legend">{items}</div>'


def _figure(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<div class="scroll"><svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg></div>'
    )
