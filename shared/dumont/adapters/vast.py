"""Vast.ai as a `Provider`: which request stands for what, and what each answer lets us conclude.

Its API has never promised much: each conclusion here errs towards "unknown", never towards "gone" or "empty".
"""

from __future__ import annotations

import builtins
import json
from typing import Any

import httpx

from dumont.adapters import vast_charges, vast_read
from dumont.adapters.vast_errors import PROVIDER, is_queued, whole_number
from dumont.adapters.vast_http import VastHttp
from dumont.adapters.vast_search import search
from dumont.domain.errors import InvalidRequest, NotFound, OfferGone, ProviderDown, StartRefused
from dumont.domain.offers import Offer, OfferQuery
from dumont.domain.reconciling import Charged
from dumont.ports import Clock, ProviderInstance, Rental

LIST_PAGE = 25  # the most that Vast puts on a page
LIST_PAGES_MAX = 400
LOG_CHARACTERS_MAX = 1 << 20
LOG_POLLS_MAX = 30
LOG_POLL_SECONDS = 0.3
LABEL_CHARACTERS_MAX = 256
ON_START_CHARACTERS_MAX = 4096


class Vast:
    """`dumont.ports.Provider` for one Vast.ai account. Safe for several threads."""

    name = PROVIDER

    def __init__(self, api_key: str, url: str, *, clock: Clock, client: httpx.Client | None = None) -> None:
        """`url` is the API's origin, such as https://console.vast.ai. Raises `AuthError` for a key that is none."""
        self._http = VastHttp(api_key, url, clock=clock, client=client)
        self._clock = clock

    def __repr__(self) -> str:
        return "Vast(…)"  # it holds a key

    def search(self, query: OfferQuery) -> builtins.list[Offer]:
        """The offers that pass the query; of more than about 600 that Vast knows, the cheapest."""
        return search(self._http, query, self._clock)

    def create(self, offer: Offer, rental: Rental) -> str:
        """Rent the offer; one request, never repeated.

        `ProviderDown`: it may be rented all the same. `BidTooLow` with an id: it is, stopped, and its disk bills.
        """
        _check(offer, rental)
        try:
            answer = self._http.call(
                "PUT",
                f"/api/v0/asks/{_numeric(offer.id)}/",
                "create",
                deadline=self._http.deadline(),
                body={
                    "client_id": "me",
                    "image": rental.image,
                    "env": dict(rental.environment),
                    "price": rental.bid_usd_per_hour,
                    "disk": rental.disk_gb,
                    "label": rental.label,
                    "onstart": rental.on_start or None,
                    "runtype": "ssh_direc ssh_proxy",  # the spelling is real
                    "force": False,
                    # Without it a GPU that is taken queues the rental, to start and bill whenever it is free.
                    "cancel_unavail": True,
                },
                missing=OfferGone,
            )
        except StartRefused as queued:
            raise ProviderDown(f"create: queued against our word: {queued}", provider=PROVIDER) from None
        contract = whole_number(answer.get("new_contract"))
        if contract is None:
            raise ProviderDown("create: done, without saying what was created", provider=PROVIDER)
        return str(contract)

    def get(self, instance_id: str) -> ProviderInstance:
        """The instance; `NotFound` only where Vast says so in words or with `instances: null`."""
        answer = self._http.call(
            "GET",
            f"/api/v0/instances/{_numeric(instance_id)}/",
            "show",
            deadline=self._http.deadline(),
            params={"owner": "me"},
            repeatable=True,
            missing=ProviderDown,
        )
        if "instances" in answer and answer["instances"] is None:
            raise NotFound(f"there is no instance {instance_id}", provider=PROVIDER)
        instance = vast_read.read_instance(answer.get("instances"))
        if instance is None or instance.id != instance_id:
            raise ProviderDown("show: no readable instance in the answer", provider=PROVIDER)
        return instance

    def list(self, label_prefix: str) -> builtins.list[ProviderInstance]:
        """Every instance of the account whose label begins so. A page that cannot be read raises `ProviderDown`."""
        deadline = self._http.deadline()
        found: dict[str, ProviderInstance] = {}
        totals: builtins.list[int] = []
        tokens: set[str] = set()
        token: str | None = None
        for _ in range(LIST_PAGES_MAX):
            page = self._page(token, deadline)
            for row in _rows(page):
                instance = vast_read.read_instance(row)
                # One row that cannot be read may be ours: an instance left out here is one that nobody stops.
                if instance is None:
                    raise ProviderDown("list: an instance without an id", provider=PROVIDER)
                found[instance.id] = instance
            total = page.get("total_instances")
            if isinstance(total, int) and not isinstance(total, bool):
                totals.append(total)
            token = _next_token(page)
            if token is None:
                break
            if token in tokens:
                raise ProviderDown("list: the pages go round in a circle", provider=PROVIDER)
            tokens.add(token)
        else:
            raise ProviderDown(f"list: more than {LIST_PAGES_MAX} pages", provider=PROVIDER)
        # The least of the totals: instances may come and go between two pages.
        if totals and len(found) < min(totals):
            raise ProviderDown(f"list: {len(found)} of {min(totals)} instances", provider=PROVIDER)
        return [i for i in found.values() if i.label is not None and i.label.startswith(label_prefix)]

    def start(self, instance_id: str) -> None:
        """Start a stopped instance. After `StartRefused` it is queued, and may start and bill later."""
        answer = self._set_state(instance_id, "running", repeatable=False)
        if is_queued(answer):
            raise StartRefused("its GPU is taken; the start is queued", provider=PROVIDER)

    def stop(self, instance_id: str) -> None:
        """Stop an instance, or cancel a queued start."""
        self._set_state(instance_id, "stopped", repeatable=True)

    def destroy(self, instance_id: str) -> None:
        """Ask for its destruction; that it is unknown is success."""
        try:
            self._http.call(
                "DELETE",
                f"/api/v0/instances/{_numeric(instance_id)}/",
                "destroy",
                deadline=self._http.deadline(),
                body={},
                repeatable=True,
                missing=NotFound,
            )
        except NotFound:
            return

    def attach_ssh_key(self, instance_id: str, public_key: str) -> None:
        """Let a key in; that it is attached already is success, so that this may be repeated."""
        try:
            self._http.call(
                "POST",
                f"/api/v0/instances/{_numeric(instance_id)}/ssh/",
                "ssh",
                deadline=self._http.deadline(),
                body={"ssh_key": public_key},
                repeatable=True,
            )
        except InvalidRequest as refused:
            if "already" not in str(refused).casefold():
                raise

    def logs(self, instance_id: str, *, tail: int = 100) -> str:
        """The last lines of the container's log, at most 2²⁰ characters. Vast uploads them elsewhere first."""
        deadline = self._http.deadline()
        answer = self._http.call(
            "PUT",
            f"/api/v0/instances/request_logs/{_numeric(instance_id)}/",
            "logs",
            deadline=deadline,
            body={"tail": str(tail)},
            repeatable=True,
        )
        url = answer.get("result_url")
        if not isinstance(url, str):
            raise ProviderDown("logs: no URL in the answer", provider=PROVIDER)
        for _ in range(LOG_POLLS_MAX):
            text = self._http.fetch_text(url, deadline=deadline)
            if text is not None:
                return text[-LOG_CHARACTERS_MAX:]
            self._clock.sleep(LOG_POLL_SECONDS)
        raise ProviderDown("logs: they were not uploaded in time", provider=PROVIDER)

    def change_bid(self, instance_id: str, bid_usd_per_hour: float) -> None:
        """Change an interruptible instance's bid, USD an hour for the whole machine."""
        self._http.call(
            "PUT",
            f"/api/v0/instances/bid_price/{_numeric(instance_id)}/",
            "bid",
            deadline=self._http.deadline(),
            body={"client_id": "me", "price": bid_usd_per_hour},
        )

    def credit_usd(self) -> float | None:
        """What can still be spent (`credit`; `balance` is another thing)."""
        answer = self._http.call(
            "GET", "/api/v0/users/current", "user", deadline=self._http.deadline(), repeatable=True
        )
        return vast_read.number(answer.get("credit"))

    def charges(self, from_time: float, to_time: float) -> builtins.list[Charged]:
        """What Vast has charged for each instance that existed within these days; see `vast_charges`."""
        return vast_charges.charges(self._http, from_time, to_time)

    def _set_state(self, instance_id: str, state: str, *, repeatable: bool) -> dict[str, Any]:
        return self._http.call(
            "PUT",
            f"/api/v0/instances/{_numeric(instance_id)}/",
            "instance",
            deadline=self._http.deadline(),
            body={"state": state},
            repeatable=repeatable,
        )

    def _page(self, token: str | None, deadline: float) -> dict[str, Any]:
        params = {
            "select_filters": "{}",
            "order_by": json.dumps([{"col": "id", "dir": "asc"}]),
            "limit": str(LIST_PAGE),
        }
        if token is not None:
            params["after_token"] = token
        return self._http.call("GET", "/api/v1/instances/", "list", deadline=deadline, params=params, repeatable=True)


def _check(offer: Offer, rental: Rental) -> None:
    """Refuse here what Vast would take in a way that nobody meant."""
    if offer.interruptible and rental.bid_usd_per_hour is None:
        # Vast silently rents on-demand then, at another price.
        raise InvalidRequest("an interruptible offer needs a bid", provider=PROVIDER)
    if len(rental.label) > LABEL_CHARACTERS_MAX or len(rental.on_start) > ON_START_CHARACTERS_MAX:
        raise InvalidRequest("the label or the on-start script is too long", provider=PROVIDER)


def _numeric(vast_id: str) -> str:
    """An id as it may stand in a path."""
    if whole_number(vast_id) is None:
        raise InvalidRequest(f"{vast_id[:40]!r} is no id of Vast.ai's", provider=PROVIDER)
    return vast_id


def _rows(page: dict[str, Any]) -> builtins.list[Any]:
    rows = page.get("instances")
    if not isinstance(rows, builtins.list):
        raise ProviderDown("list: no list of instances in the answer", provider=PROVIDER)
    found = page.get("instances_found")
    # The count of the page, says the documentation; that of all pages would be no contradiction either.
    if isinstance(found, int) and found not in (len(rows), page.get("total_instances")):
        raise ProviderDown(f"list: {len(rows)} instances on a page that counts {found}", provider=PROVIDER)
    return rows


def _next_token(page: dict[str, Any]) -> str | None:
    token = page.get("next_token")
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise ProviderDown("list: the next page's token cannot be read", provider=PROVIDER)
    return token
