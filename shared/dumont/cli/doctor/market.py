"""Vast: with the key of this environment if it has one, else as the control plane sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dumont.cli.client import Client
from dumont.cli.doctor.own import first_of
from dumont.cli.errors import CliError
from dumont.domain.findings import Finding, missing, ok, skipped, unknown, warning

AREA = "vast"
CREDIT_LOW_USD = 5.0
"""A day of a cheap machine; the control plane itself warns by what runs (`domain.budgets`)."""
NEW_KEY = "make a key at https://cloud.vast.ai/manage-keys/ and set VAST_API_KEY"
NO_WORD = ("unreachable", "no_answer", "not_dumont", "no_key", "wrong_key", "unauthenticated")
NOT_KNOWN = "not known from here: VAST_API_KEY is not set, and the API tells us nothing"
PAY_IN = "pay in at https://cloud.vast.ai/billing/"


def look(url: str, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The key, what it may do, and the credit that is left."""
    if environment.get("VAST_API_KEY"):
        yield from _with_key(environment["VAST_API_KEY"], environment.get("VAST_URL") or "https://console.vast.ai")
    else:
        yield from _through_api(url)


def _with_key(key: str, url: str) -> Iterator[Finding]:
    from dumont.adapters.clock import SystemClock
    from dumont.adapters.vast import Vast
    from dumont.domain.errors import AuthError, ProviderError

    again = "dumont doctor"
    try:
        vast = Vast(key, url, clock=SystemClock())
        credit = vast.credit_usd()
    except AuthError:
        yield missing(AREA, "key", f"{url} refuses VAST_API_KEY, or its right user_read", NEW_KEY)
        return
    except ProviderError as error:
        yield unknown(AREA, "key", f"{url}: {error}", again)
        return
    yield ok(AREA, "key", f"{url} takes it")
    yield _credit(credit)
    try:
        vast.list("dumont.")
    except AuthError:
        yield missing(AREA, "right to list", "the key lacks instance_read", NEW_KEY)
    except ProviderError as error:
        yield unknown(AREA, "right to list", str(error), again)
    else:
        yield ok(AREA, "right to list", "it may see instances")
    yield skipped(AREA, "right to rent", "shows only when something is rented (instance_write)")


def _credit(credit: float | None) -> Finding:
    if credit is None:
        return unknown(AREA, "credit", "the market does not say", "dumont doctor")
    if credit <= 0:
        return missing(AREA, "credit", f"${credit:.2f}: nothing can be rented", PAY_IN)
    if credit < CREDIT_LOW_USD:
        return warning(AREA, "credit", f"${credit:.2f}: at zero the market stops everything", PAY_IN)
    return ok(AREA, "credit", f"${credit:.2f}")


def _through_api(url: str) -> Iterator[Finding]:
    """The control plane has a key of its own: that it gets offers says that the market takes it."""
    try:
        client = Client(url, timeout_seconds=20.0)
    except CliError:  # said of the API's key already
        yield skipped(AREA, "key", NOT_KNOWN)
        return
    with client:
        try:
            found = client.get("search", limit=1)
        except CliError as error:
            if error.problem.get("code") in NO_WORD:  # said of the API already
                yield skipped(AREA, "key", NOT_KNOWN)
            else:
                yield unknown(AREA, "key", f"the control plane: {error.detail}", error.hint or "dumont doctor")
            return
        count = found.get("count") or len(found.get("offers") or [])
        yield ok(AREA, "key", f"the control plane's: the market answers it with {count} offers")
        try:
            seen = first_of(client.get("budgets").get("credit"))
        except CliError as error:
            yield unknown(AREA, "credit", error.detail, error.hint or "dumont doctor")
            return
    credit = seen.get("credit_usd")
    if isinstance(credit, int | float):
        yield warning(AREA, "credit", f"${credit:.2f} runs low", PAY_IN) if seen.get("low") else _credit(float(credit))
    else:
        yield skipped(AREA, "credit", "the control plane has not seen it yet: it looks while something runs")
    yield skipped(AREA, "right to rent", "shows only when something is rented (instance_write)")
