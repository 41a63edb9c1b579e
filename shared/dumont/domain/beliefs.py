"""What is believed of an offer's host: how likely it works, how long it lives, how fast it is. Pure; no records.

A few observations are not a ratio. Each belief is a posterior: it begins at what all hosts are like and what the
market says, and moves as far as the evidence carries it. What a job costs is the expectation over that posterior.
"""

from __future__ import annotations

import math

import msgspec

_EXPONENT_MAX = 50.0  # beyond this a job never ends; a finite number keeps the order total


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """Posteriors over one offer.

    `works`: the chance that renting it gives a machine that proves itself (0–1, exclusive); `works_deviation` its
    standard deviation. Deaths per served hour are Gamma distributed, with shape `deaths` and rate `hours`.
    `boot_seconds` until it runs, the image's pull included. `restore_mbps`: what a restore reaches, in Mbit/s.
    """

    works: float
    works_deviation: float
    deaths: float
    hours: float
    boot_seconds: float
    restore_mbps: float
    blocked_until: float | None = None

    @property
    def deaths_per_hour(self) -> float:
        """The mean of the posterior."""
        return self.deaths / self.hours

    def is_blocked(self, now: float) -> bool:
        """Whether it is to be left alone for now."""
        return self.blocked_until is not None and now < self.blocked_until

    def rentals_per_start(self) -> float:
        """How many rentals it takes, expected, until one proves itself, if each is as this one: 1 or more."""
        return 1.0 / self.works

    def busy(self, work_hours: float) -> tuple[float, float]:
        """Hours of running, and deaths on the way, expected until `work_hours` were done in one go.

        Each attempt is on another host like this one and begins anew, with no checkpoint. Over a Gamma posterior with
        shape a and rate b a host lives beyond t with S(t) = (b / (b + t))^a (Lomax). An attempt lasts ∫₀ʷ S and
        succeeds with S(w), so that (∫₀ʷ S) / S(w) hours and 1 / S(w) − 1 deaths are expected. With much evidence this
        is Daly's (e^{hw} − 1) / h, at h = a / b.
        """
        log_ratio = math.log1p(work_hours / self.hours)
        shape = min(self.deaths, _EXPONENT_MAX / max(log_ratio, 1e-9))
        return self.hours * _integral(shape, log_ratio) * math.exp(shape * log_ratio), math.expm1(shape * log_ratio)


def _integral(shape: float, log_ratio: float) -> float:
    """∫₀ʷ S(t) dt / b = (1 − (b / (b + w))^{a−1}) / (a − 1), and ln((b + w) / b) where a is 1."""
    beyond_one = shape - 1.0
    if abs(beyond_one) * log_ratio < 1e-9:
        return log_ratio
    return -math.expm1(-beyond_one * log_ratio) / beyond_one
