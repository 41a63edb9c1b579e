"""Money, times and machines in few words. Pure. Unknown is "–"."""

from __future__ import annotations

from dumont.domain.offers import Offer
from dumont.domain.records import MachineSpec
from dumont.edge.slack.blocks import escaped

UNKNOWN = "–"


def usd(amount: float | None, digits: int | None = None) -> str:
    """ "$1.24"; cents of cents where it is less than a dime."""
    if amount is None:
        return UNKNOWN
    if digits is None:
        digits = 2 if abs(amount) >= 0.1 or amount == 0 else 4
    sign = "−" if round(amount, digits) < 0 else ""
    return f"{sign}${abs(amount):,.{digits}f}"


def per_hour(amount: float | None) -> str:
    """ "$0.312/h"."""
    return UNKNOWN if amount is None else f"{usd(amount, 3)}/h"


def duration(seconds: float | None) -> str:
    """ "4.2 s", "12 min", "2 h 10 min", "3 d 4 h"."""
    if seconds is None:
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def gpus(thing: Offer | MachineSpec) -> str:
    """ "2× RTX 4090", escaped."""
    name = escaped(thing.gpu or "any GPU", 60)
    return f"{thing.gpu_count}× {name}" if thing.gpu_count != 1 else name


def size(count: float | None) -> str:
    """ "13.0 GB"."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def at(moment: float | None) -> str:
    """A moment as each reader's own clock shows it, which Slack works out."""
    if moment is None:
        return UNKNOWN
    return f"<!date^{int(moment)}^{{date_short_pretty}} {{time}}|{int(moment)} UTC>"
