"""The control endpoints of the simulated market, under `/_market/`. They are for tests and demonstrations on one
machine: no key is asked for, and only loopback reaches them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dumont.local.market.api import Answer, Api
from dumont.local.market.faults import KINDS, Fault
from dumont.local.market.instance import Instance
from dumont.local.market.interventions import mend
from dumont.local.market.refusals import Refused
from dumont.local.market.rows import instance_row
from dumont.local.market.webhooks import Destination

PREFIX = "/_market/"


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which instances: of an id, or of a label, in which "*" stands for anything."""

    instance_id: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.instance_id is None and self.label is None:
            raise ValueError("an instance_id or a label is needed")


def control(api: Api, method: str, path: str, raw: bytes, now: float) -> Answer:
    """Answer a request to a control endpoint:

    - GET `bill`, GET `state`, GET `calls` (the requests answered so far), GET `faults`
    - POST `faults` (a `Fault`; answers with the `instance_ids` that it befell at once), DELETE `faults`
    - POST `mend` `{"instance_id": …}` or `{"label": …}`: what is cut off or offline comes back now
    - POST `webhook` `{"url": …, "secret": …}`: where notices go (of instances that are outbid); DELETE `webhook`
    - POST `credit` `{"credit_usd": …}`, POST `limits` `{endpoint: seconds}` (empty: off)
    """
    name = path.removeprefix(PREFIX).strip("/")
    try:
        return _json(200, _act(api, method, name, raw, now))
    except msgspec.DecodeError as malformed:
        return _json(400, {"success": False, "error": "invalid_args", "msg": str(malformed), "kinds": sorted(KINDS)})
    except Refused as refused:
        return _json(refused.status, refused.body())


def _act(api: Api, method: str, name: str, raw: bytes, now: float) -> Any:
    market = api.market
    match method, name:
        case "GET", "bill":
            return market.bill(now).as_json()
        case "GET", "state":
            return {"now": now, "credit_usd": market.credit_usd(now), "instances": _history(api, now)}
        case "GET", "calls":
            return {"calls": msgspec.to_builtins(api.calls)}
        case "GET", "faults":
            return {"faults": msgspec.to_builtins(market.faults.waiting())}
        case "POST", "faults":
            befallen = market.inject(msgspec.json.decode(raw, type=Fault), now)
            return {"success": True, "instance_ids": befallen}
        case "POST", "mend":
            named = msgspec.json.decode(raw, type=Named)
            return {"success": True, "instance_ids": mend(market, named.instance_id, named.label, now)}
        case "POST", "webhook":
            api.webhook = msgspec.json.decode(raw, type=Destination)
            return {"success": True}
        case "DELETE", "webhook":
            api.webhook = None
            return {"success": True}
        case "DELETE", "faults":
            market.faults.clear()
            return {"success": True}
        case "POST", "credit":
            market.set_credit(msgspec.json.decode(raw, type=dict[str, float])["credit_usd"], now)
            return {"success": True}
        case "POST", "limits":
            api.limits.least_seconds = msgspec.json.decode(raw, type=dict[str, float])
            return {"success": True}
    raise Refused(404, "not_found", "The simulated market has no such control.")


def _history(api: Api, now: float) -> list[dict[str, Any]]:
    shown = []
    for instance in api.market.ever():
        moment = now if instance.destroyed_at is None else min(now, instance.destroyed_at)
        shown.append(
            {
                **instance_row(instance, moment, api.market.opened_at),
                "ask_id": instance.ask.id,
                "exists": instance.exists(now),
                "network_works": instance.network_works(now),
                "processes_run": instance.container_since(now) is not None and _reached(api, instance, now),
                "created_at": instance.created_at,
                "destroyed_at": instance.destroyed_at,
                "phases": [
                    {"at": p.at, "actual": p.actual, "cur": p.cur, "intended": p.intended, "message": p.message}
                    for p in instance.timeline.all()
                    if p.at <= moment
                ],
            }
        )
    return shown


def _reached(api: Api, instance: Instance, now: float) -> bool:
    """Whether what its timeline says still befalls its machine."""
    return instance.exists(now) or instance in api.market.unreached(now)


def _json(status: int, body: Any) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(body))
