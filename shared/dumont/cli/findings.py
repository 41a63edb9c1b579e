"""How findings of a look at a set-up are shown: what is well in few lines, what is not with what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from dumont.cli.output import Cli

if TYPE_CHECKING:
    from dumont.domain.findings import Finding

NAMES_MAX = 6
"""More names than these on one line are counted, not written; --json has them all."""


def show(cli: Cli, findings: Sequence[Finding], *, all_of_them: bool = False) -> int:
    """Print them; the command's exit status, 1 if something is missing or unknown."""
    import msgspec

    from dumont.domain.findings import State, is_well

    well = is_well(findings)
    counts = {state.value: sum(finding.state is state for finding in findings) for state in State}
    cli.result({"well": well, "counts": counts, "findings": [msgspec.to_builtins(finding) for finding in findings]})
    rows = [[f.state.value, f.area, f.name, f.says] for f in findings] if all_of_them else _folded(findings)
    cli.table(("STATE", "ABOUT", "WHAT", "FOUND"), rows)
    mends = dict.fromkeys(f.mend for f in findings if f.mend and f.state not in (State.OK, State.SKIPPED))
    if mends:
        cli.say("\nwhat mends it, in this order:")
        for mend in mends:
            cli.say(f"  {mend}")
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    cli.say(f"\n{told}" if told else "")
    return 0 if well else 1


def _folded(findings: Sequence[Finding]) -> list[list[str]]:
    """What is well in one line an area; what has the same to say in one line."""
    from dumont.domain.findings import State

    rows = []
    for area, of_area in groupby(findings, key=lambda finding: finding.area):
        by_kind: dict[tuple[str, str], list[Finding]] = {}
        listed = list(of_area)
        for finding in listed:
            says = "" if finding.state is State.OK else finding.says
            by_kind.setdefault((finding.state.value, says), []).append(finding)
        for (state, says), alike in by_kind.items():
            alone = alike[0]
            what = f"{len(alike)} of {len(listed)}" if alone.state is State.OK and len(alike) > 1 else _names(alike)
            rows.append([state, area, what, alone.says if len(alike) == 1 else says])
    return rows


def _names(findings: Sequence[Finding]) -> str:
    names = [finding.name for finding in findings]
    return ", ".join(names) if len(names) <= NAMES_MAX else f"{', '.join(names[:2])} and {len(names) - 2} more"
