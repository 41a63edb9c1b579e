"""A month of the control plane by the published prices, for any number of machines: from fleets of one and of ten."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks import google_prices as prices
from tests.benchmarks.bench_control_plane import Use, month_usd
from tests.report.findings import Findings

MONTH_SECONDS = prices.DAYS * 86_400.0
FLEETS = (1, 10, 1000, 10_000)


@dataclass(frozen=True)
class Month:
    """A month of so many machines: what was used, and USD by service, by list price and less the free tier."""

    machines: int
    use: Use
    usd: dict[str, float]
    usd_less_free: dict[str, float]

    @property
    def total_usd(self) -> float:
        """The bill by list price."""
        return sum(self.usd.values())


def a_month(found: Findings) -> Use:
    """What a world used, as a month of it."""
    return found.used().scaled(MONTH_SECONDS / found.virtual_seconds)


def split(one: Use, ten: Use) -> tuple[Use, Use]:
    """What each machine uses, and what is used whatever there is: linear between one machine and ten. Nothing is used
    less than not at all, and no machine gives any back: a sweep that took a second less over ten would else have made
    ten thousand cheaper by a month of it."""
    each = _at_least_nothing((ten - one).scaled(1 / 9))
    return each, _at_least_nothing(one - each)


def _at_least_nothing(use: Use) -> Use:
    return Use(
        reads=max(0.0, use.reads),
        writes=max(0.0, use.writes),
        messages=max(0.0, use.messages),
        deletes=max(0.0, use.deletes),
        requests={name: max(0.0, count) for name, count in use.requests.items()},
        seconds={name: max(0.0, seconds) for name, seconds in use.seconds.items()},
    )


def months(one: Use, ten: Use) -> list[Month]:
    """The bills of each size of fleet."""
    each, whatever = split(one, ten)
    return [month(number, whatever.plus(each, number)) for number in FLEETS]


def month(machines: int, use: Use) -> Month:
    """One month's bill."""
    return Month(machines, use, month_usd(use, free=False), month_usd(use, free=True))
