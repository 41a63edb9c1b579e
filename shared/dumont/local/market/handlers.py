"""What each endpoint of Vast.ai's API does. Each method takes `now`, the JSON body, the request, and the path's ids."""

from __future__ import annotations

import datetime
import json
import random
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dumont.local.market import charges, listing
from dumont.local.market.access import Access
from dumont.local.market.core import Market
from dumont.local.market.faults import LIST_KINDS
from dumont.local.market.gpu_models import MODELS
from dumont.local.market.refusals import Refused, invalid_args
from dumont.local.market.rows import instance_row

if TYPE_CHECKING:
    from dumont.local.market.api import Request

USER_ID = 4242
COMMANDS = frozenset({"ls", "rm", "du"})
COMMAND_LENGTH_MOST = 512
RESULTS_KEPT = 256

Body = Mapping[str, Any]
Json = dict[str, Any]


class Handlers:
    """The endpoints of one market."""

    def __init__(
        self,
        market: Market,
        access: Access,
        *,
        read_log: Callable[[int, bool], str] | None,
        execute: Callable[[int, list[str]], str] | None,
    ) -> None:
        self._market = market
        self._access = access
        self._read_log = read_log
        self._execute = execute
        self._rng = random.Random(f"results/{market.seed}")
        self.results: dict[str, str] = {}
        """What logs and commands gave, by the token in its address."""

    # --- Offers ---------------------------------------------------------------------------------------------------

    def gpu_names(self) -> list[str]:
        """The models on the market."""
        return sorted(model.name for model in MODELS)

    def search(self, *, now: float, body: Body, **_: Any) -> Json:
        """POST /bundles/"""
        return {"offers": self._market.search(body, now)}

    def search_by_query(self, *, now: float, request: Request, **_: Any) -> Json:
        """GET /bundles?q={…}"""
        try:
            query = json.loads(request.query.get("q", "{}"))
        except ValueError:
            raise Refused(400, "invalid_request", "Invalid json body") from None
        return {"offers": self._market.search(query, now)}

    def search_asks(self, *, now: float, body: Body, **_: Any) -> Json:
        """PUT /search/asks/"""
        query = body.get("q") or {}
        if not isinstance(query, Mapping):
            raise Refused(400, "invalid_request", "Invalid json body")
        return {"offers": self._market.search(query, now)}

    # --- Instances ------------------------------------------------------------------------------------------------

    def create(self, *, now: float, body: Body, id: int, **_: Any) -> Json:  # noqa: A002 - the API's own name
        """PUT /asks/{id}/"""
        instance = self._market.create(id, body, now)
        return {"success": True, "new_contract": instance.id, "instance_api_key": instance.container_key}

    def list_instances(self, *, now: float, request: Request, **_: Any) -> Json:
        """GET /api/v1/instances/"""
        fault = self._market.faults.take(LIST_KINDS, rng=self._rng, endpoint="list")
        if fault is not None and fault.kind == "list_error_200":
            raise Refused(200, "internal_error", "The list of instances cannot be read right now.")
        rows = [instance_row(i, now, self._market.opened_at) for i in self._market.live(now)]
        page = listing.page(rows, request.query)
        if fault is not None:
            page["instances"] = page["instances"][: fault.keep]
            page.update(instances_found=len(page["instances"]), next_token=None)
        return page

    def list_deprecated(self, **_: Any) -> Json:
        """GET /instances/, which Vast.ai has withdrawn."""
        raise Refused(410, "deprecated_endpoint", "This endpoint is deprecated; use /api/v1/instances/.")

    def instance_filters(self, *, now: float, **_: Any) -> Json:
        """GET /instances/filters/"""
        names = ("actual_status", "gpu_name", "verification")
        rows = [instance_row(i, now, self._market.opened_at) for i in self._market.live(now)]
        return {"success": True, "filters": [{name: row[name] for name in names} for row in rows]}

    def show(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """GET /instances/{id}/"""
        try:
            instance = self._market.instance(id, now)
        except Refused:
            return {"instances": None}
        return {"instances": instance_row(instance, now, self._market.opened_at)}

    def update(self, *, now: float, body: Body, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/{id}/ with a state or a label"""
        state, label = body.get("state"), body.get("label")
        if label is not None:
            self._market.relabel(id, str(label), now)
        if state == "running":
            self._market.start(id, now)
        elif state == "stopped":
            self._market.stop(id, now)
        elif state is not None or label is None:
            raise invalid_args("'state' is running or stopped")
        return {"success": True}

    def destroy(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """DELETE /instances/{id}/"""
        self._market.destroy(id, now)
        return {"success": True, "msg": f"destroying instance {id}."}

    def update_several(self, *, now: float, body: Body, **_: Any) -> Json:
        """PUT /instances/ with a state and ids"""
        for instance_id in _ids(body, "ids"):
            self.update(now=now, body=body, id=instance_id)
        return {"success": True}

    def destroy_several(self, *, now: float, body: Body, **_: Any) -> Json:
        """DELETE /instances/ with ids"""
        for instance_id in _ids(body, "instance_ids"):
            self._market.destroy(instance_id, now)
        return {"success": True}

    def reboot(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/reboot/{id}/"""
        self._market.reboot(id, now)
        return {"success": True}

    def recycle(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/recycle/{id}/"""
        self._market.reboot(id, now, status="recycling")
        return {"success": True}

    def change_bid(self, *, now: float, body: Body, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/bid_price/{id}/"""
        price = body.get("price")
        if price is not None and not isinstance(price, int | float):
            raise invalid_args("'price' must be a number")
        self._market.change_bid(id, price, now)
        return {"success": True}

    def deposit(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """GET /instances/balance/{id}/: nothing is ever prepaid here"""
        self._market.instance(id, now)
        return {"success": True, "balance": 0.0, "discount_rate": 0.0}

    def price_increases(self, **_: Any) -> Json:
        """GET /instances/pending-price-increases/"""
        return {"success": True, "results": []}

    def reports(self, **_: Any) -> Json:
        """GET /machines/{id}/reports/"""
        return {"success": True, "reports": []}

    # --- Logs and commands ----------------------------------------------------------------------------------------

    def request_logs(self, *, now: float, body: Body, request: Request, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/request_logs/{id}/"""
        instance = self._market.instance(id, now)
        daemon = str(body.get("daemon_logs", "")).lower() == "true"
        text = self._read_log(id, daemon) if self._read_log is not None else instance.phase(now).message
        wanted = str(body.get("filter") or "")
        lines = [line for line in text.splitlines() if wanted in line]
        tail = str(body.get("tail") or "1000")
        if not tail.isdigit():
            raise invalid_args("'tail' must be a number")
        url = self._keep("\n".join(lines[-int(tail) :] if int(tail) else []) + "\n", request)
        return {"success": True, "result_url": url, "msg": "Logs are uploading; view them at the result_url."}

    def execute(self, *, now: float, body: Body, request: Request, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /instances/command/{id}/: only ls, rm and du"""
        instance = self._market.instance(id, now)
        command = str(body.get("command") or "")
        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        if not words or words[0] not in COMMANDS or len(command) > COMMAND_LENGTH_MOST:
            raise invalid_args("Invalid command given.")
        if self._execute is None or not instance.phase(now).running:
            raise Refused(400, "invalid_container", "The container does not run.")
        url = self._keep(self._execute(id, words), request)
        msg = "Command is executing, wait a few seconds and then view the result_url"
        return {"success": True, "result_url": url, "writeable_path": "", "msg": msg}

    def _keep(self, text: str, request: Request) -> str:
        token = f"{self._rng.getrandbits(128):032x}"
        while len(self.results) >= RESULTS_KEPT:
            del self.results[next(iter(self.results))]
        self.results[token] = text
        return f"{request.base_url}/results/{token}.log"

    # --- SSH keys -------------------------------------------------------------------------------------------------

    def instance_keys(self, *, now: float, id: int, **_: Any) -> Json:  # noqa: A002
        """GET /instances/{id}/ssh/: the keys are JSON inside a string, as the docs have it"""
        keys = self._market.instance(id, now).keys
        shown = [{"id": key_id, "name": "", "public_key": key} for key_id, key in keys.items()]
        return {"success": True, "ssh_keys": json.dumps(shown)}

    def attach_key(self, *, now: float, body: Body, id: int, **_: Any) -> Json:  # noqa: A002
        """POST /instances/{id}/ssh/"""
        self._market.attach_key(id, public_key(body), now)
        return {"success": True, "msg": "SSH key attached successfully"}

    def detach_key(self, *, now: float, id: int, key_id: int, **_: Any) -> Json:  # noqa: A002
        """DELETE /instances/{id}/ssh/{key_id}/"""
        self._market.ssh_keys.detach(self._market.instance(id, now), key_id)
        return {"success": True, "msg": "SSH key removed from instance."}

    def account_keys(self, **_: Any) -> list[Json]:
        """GET /ssh/"""
        return [self._shown_key(key_id) for key_id in self._market.ssh_keys.held]

    def add_account_key(self, *, now: float, body: Body, **_: Any) -> Json:
        """POST /ssh/"""
        key_id = self._market.ssh_keys.add(public_key(body), now)
        shown = self._shown_key(key_id)
        return {"success": True, "key": {**shown, "public_key": shown["key"]}}

    def change_account_key(self, *, now: float, body: Body, id: int, **_: Any) -> Json:  # noqa: A002
        """PUT /ssh/{id}/"""
        self._market.ssh_keys.change(id, public_key(body), now)
        return {"success": True, "key": self._shown_key(id)}

    def delete_account_key(self, *, id: int, **_: Any) -> Json:  # noqa: A002
        """DELETE /ssh/{id}/"""
        self._market.ssh_keys.delete(id)
        return {"success": True}

    def _shown_key(self, key_id: int) -> Json:
        key, created_at = self._market.ssh_keys.held[key_id]
        created = datetime.datetime.fromtimestamp(created_at, datetime.UTC).isoformat()
        return {"id": key_id, "user_id": USER_ID, "key": key, "created_at": created, "deleted_at": None}

    # --- The account ----------------------------------------------------------------------------------------------

    def user(self, *, now: float, **_: Any) -> Json:
        """GET /users/current"""
        credit = self._market.credit_usd(now)
        return {
            "id": USER_ID,
            "key_id": 1,
            "email": "someone@example.com",
            "username": "someone",
            "fullname": "Someone",
            "balance": 0.0,
            "balance_threshold": 0.0,
            "balance_threshold_enabled": False,
            "credit": credit,
            "can_pay": credit > 0,
            "has_billing": True,
            "ssh_key": next((key for key, _ in self._market.ssh_keys.held.values()), ""),
            "sid": "simulated",
        }

    def charges(self, *, now: float, request: Request, **_: Any) -> Json:
        """GET /charges/"""
        return charges.page(self._market.bill(now).instances, request.query, now)

    def api_keys(self, **_: Any) -> Json:
        """GET /auth/apikeys/"""
        return {"apikeys": self._access.shown()}

    def create_api_key(self, *, body: Body, **_: Any) -> Json:
        """POST /auth/apikeys/"""
        return self._access.create(body)

    def delete_api_key(self, *, id: int, **_: Any) -> Json:  # noqa: A002
        """DELETE /auth/apikeys/{id}/"""
        self._access.delete(id)
        return {"success": True}

    # --- Volumes: the simulated market offers none ----------------------------------------------------------------

    def search_volumes(self, **_: Any) -> Json:
        """POST /volumes/search/"""
        return {"offers": []}

    def volumes(self, **_: Any) -> Json:
        """GET /volumes"""
        return {"success": True, "volumes": []}


def _ids(body: Body, name: str) -> list[int]:
    ids = body.get(name)
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise invalid_args(f"'{name}' must be a list of ids")
    return ids


def public_key(body: Body) -> str:
    """The public key of a request. Raises `Refused` (400)."""
    key = body.get("ssh_key")
    if not isinstance(key, str) or not key.strip():
        raise Refused(400, "no_ssh_key", "No ssh key provided")
    return key.strip()
