"""What other runs have left: the defects that the simulation finds, and the benchmarks' figures."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import percentile
from tests.simulation import mutations as kept_mutations
from tests.simulation.defects import DEFECTS


def mutations() -> str:
    """Deliberate defects, which invariant catches each, and after how many seeds."""
    records = kept_mutations.kept()
    if not records:
        return ""
    after = [float(record.after) for record in records.values()]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><small>{escape(DEFECTS[name].says)}</small></td>"
        f'<td>{escape(record.caught_by)}</td><td class="n">{record.after}</td></tr>'
        for name, record in sorted(records.items(), key=lambda item: -item[1].after)
    )
    head = '<tr><th>defect</th><th>caught by</th><th class="n">after seeds</th></tr>'
    said = (
        f"<p>{len(records)} of {len(DEFECTS)} deliberate defects have been looked for and are caught: half of them "
        f"within {percentile(after, 0.5):.0f} seeds, all within {max(after):.0f}.</p>"
    )
    shown = f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
    return f"{said}<details><summary>The list, the hardest to find first</summary>{shown}</details>"


def benchmarks(folder: Path) -> str:
    """The figures that have a goal, of each benchmark that was run here."""
    rows, without = [], []
    for path in sorted(folder.glob("*.json")):
        saved = _read(path)
        with_goal = [f for f in saved.get("figures", []) if f.get("goal") is not None]
        if not with_goal:
            without.append(path.stem)
        for number, figure in enumerate(with_goal):
            css, word = ("good", "met") if figure["met"] else ("bad", "missed")
            name = f"<b>{escape(path.stem)}</b>" if number == 0 else ""
            rows.append(
                f"<tr><td>{name}</td><td>{escape(str(figure['name']).strip())}</td>"
                f'<td class="n">{figure["value"]:,.4g} {escape(figure["unit"])}</td>'
                f'<td class="n">≤ {figure["goal"]:.4g}</td><td class="{css}">{word}</td></tr>'
            )
    if not rows:
        return "<p>None has been run here: <code>make bench-main</code> and its like leave their figures.</p>"
    head = '<tr><th></th><th>figure</th><th class="n">value</th><th class="n">goal</th><th></th></tr>'
    shown = f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    rest = f"<small>Without goals: {escape(', '.join(without))}.</small>" if without else ""
    return f"<p>As they lie in build/benchmarks, each of its own day and machine.</p>{shown}{rest}"


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
