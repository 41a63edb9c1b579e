"""What was spent and saved, how budgets stand, and the day's digest, as blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain.savings import Savings
from dumont.edge.slack import blocks as b
from dumont.edge.slack.blocks import Block, escaped
from dumont.edge.slack.figures import at, duration, per_hour, usd
from dumont.operations.budget_settings import BudgetSeen
from dumont.operations.look import MachineSeen
from dumont.operations.spending import Spending

ROWS_MOST = 10
_PER = {"hour": "an hour", "day": "a day", "total": "in all"}


def costs(found: Spending, machine: str) -> list[Block]:
    """What was spent, by what was asked."""
    whose = f" on {escaped(machine)}" if machine else ""
    total = found.total
    head = f"*{usd(total.usd)}*{whose} since {at(found.from_time)}"
    parts = [("GPU", total.gpu_usd), ("disk", total.storage_usd), ("network", total.bandwidth_usd)]
    parts += [("snapshots", total.object_store_usd), ("other", total.other_usd)]
    small = " · ".join(f"{name} {usd(spent)}" for name, spent in parts if spent)
    rows = [f"{escaped(row.key, 60)}  *{usd(row.usd)}*  {row.gpu_hours:.1f} GPU h" for row in found.totals[:ROWS_MOST]]
    left = len(found.totals) - ROWS_MOST
    rows += [f"… and {left} more: `dumont cost`"] if left > 0 else []
    shown = [b.section(head + (f"\n{small}" if small else ""))]
    shown += [b.section("\n".join(rows))] if rows and not machine else []
    accruing = f"{usd(total.accruing_usd)} of it is still accruing" if total.accruing_usd else "all of it is entered"
    return [*shown, b.context(accruing)]


def savings(found: Savings, machine: str) -> list[Block]:
    """What was saved by sleeping, and against the big clouds, each with its formula."""
    whose = f" by {escaped(machine)}" if machine else ""
    if not found.sleep and not found.clouds:
        return [b.section(f"Nothing was saved{whose} yet: nothing ran.")]
    slept = sum(saving.saved_usd for saving in found.sleep)
    shown = [b.section(f"*{usd(slept)}* saved{whose} by sleeping, against never sleeping")]
    best = sorted(found.sleep, key=lambda saving: -saving.saved_usd)[:ROWS_MOST]
    if best:
        rows = [f"{escaped(s.machine)}  *{usd(s.saved_usd)}*  = {escaped(s.formula, 200)}" for s in best]
        shown.append(b.section("\n".join(rows)))
    if found.clouds:
        rows = [
            f"{escaped(s.cloud)} {escaped(s.machine_type, 60)} ({escaped(s.cloud_gpu, 60)})  *{usd(s.saved_usd)}*"
            f" on {escaped(s.gpu, 60)}: {escaped(s.formula, 200)}"
            for s in found.clouds[:ROWS_MOST]
        ]
        shown.append(b.section("Against the same GPU hours on a cloud (alternatives: they do not add up)"))
        shown.append(b.section("\n".join(rows)))
        dates = sorted({s.as_of for s in found.clouds})
        shown.append(b.context(f"list prices as of {escaped(', '.join(dates), 200)}"))
    return shown


def budgets(found: Sequence[BudgetSeen]) -> list[Block]:
    """How each budget stands."""
    shown = []
    for seen in found[:20]:
        record = seen.budget
        name = escaped(record.machine) or "all machines together"
        lines = [f"*{name}*" + (" (the default)" if record.is_default else "")]
        for window, limit in record.limits.items():
            spent = seen.spent_usd.get(window, 0.0)
            lines.append(f"{bar(spent / limit)} {usd(spent)} of {usd(limit)} {_PER[window]}")
        if not record.limits:
            lines.append("no limit")
        shown.append(b.section("\n".join(lines)))
        shown.append(b.context(f"at the limit: {record.action.value.replace('_', ' ')}"))
    return [*shown, b.context("`dumont budget set` changes them")]


def bar(share: float) -> str:
    """A share as ten squares: "▓▓▓▓░░░░░░ 41 %"."""
    full = min(10, max(0, int(share * 10)))
    return f"{'▓' * full}{'░' * (10 - full)} {share * 100:.0f} %"


def digest(found: Spending, saved: Savings, machines: Sequence[MachineSeen], now: float) -> list[Block]:
    """A day: what was spent and saved, and what bills now."""
    slept = sum(saving.saved_usd for saving in saved.sleep)
    head = f"*{usd(found.total.usd)}* spent"
    head += f", *{usd(slept)}* saved by sleeping" if slept > 0 else ""
    cheapest = min((s.saved_usd for s in saved.clouds), default=None)
    head += f", at least {usd(cheapest)} against the big clouds" if cheapest is not None and cheapest > 0 else ""
    rows = [f"{escaped(row.key, 60)}  {usd(row.usd)}  {row.gpu_hours:.1f} GPU h" for row in found.totals[:ROWS_MOST]]
    current = [seen.current for seen in machines]
    billing = [i.offer.total_usd_per_hour(i.disk_gb) for i in current if i is not None and i.open]
    running = [seen for seen in machines if seen.machine.running_since is not None and seen.current is not None]
    longest = max((now - (seen.machine.running_since or now) for seen in running), default=0.0)
    state = f"now {len(billing)} bill {per_hour(sum(billing))}"
    state += f", the longest for {duration(longest)}" if running else ""
    return [b.header("Yesterday at Dumont"), b.section(head), *([b.section("\n".join(rows))] if rows else []),
            b.context(f"{at(found.from_time)} to {at(found.to_time)} · {state}")]  # fmt: skip
