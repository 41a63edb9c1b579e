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
    less than not at all."""
    each = (ten - one).scaled(1 / 9)
    rest = one - each
    whatever = Use(
        reads=max(0.0, rest.reads),
        writes=max(0.0, rest.writes),
        messages=max(0.0, rest.messages),
        deletes=max(0.0, rest.deletes),
        requests={name: max(0.0, count) for name, count in rest.requests.items()},
        seconds={name: max(0.0, seconds) for name, seconds in rest.seconds.items()},
    )
    return each, whatever


def months(one: Use, ten: Use) -> list[Month]:
    """The bills of each size of fleet."""
    each, whatever = split(one, ten)
    return [month(number, whatever.plus(each, number)) for number in FLEETS]


def month(machines: int, use: Use) -> Month:
    """One month's bill."""
    return Month(machines, use, month_usd(use, free=False), month_usd(use, free=True))
