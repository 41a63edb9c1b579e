"""`POST /snapshot` (202 and an operation), `GET /snapshot`, `GET /snapshot/ID`; the worker also restores."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import ListSnapshots, SnapshotRequest
from dumont.operations import look
from dumont.operations.snapshot import request_snapshot


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR})
def snapshot(call: Call) -> Answer:
    """POST takes one of a running machine; GET lists them, or shows one."""
    match call.request.method, call.path:
        case "POST", []:
            name = call.body(SnapshotRequest).name
            taken, op = request_snapshot(call.ports, name, reason="user", requested_by=call.caller)
            body = {"snapshot": views.snapshot(taken), **views.accepted(call.ports, op.id)}
            return Answer(body, 202, {"Location": f"/operations/{op.id}"})
        case "GET", []:
            found = look.snapshots(call.ports, machine_name=call.arguments(ListSnapshots).machine)
            return Answer({"snapshots": [views.snapshot(seen) for seen in found]})
        case "GET", [snapshot_id]:
            return Answer({"snapshot": views.snapshot(look.snapshot(call.ports, snapshot_id))})
    raise no_such_path(call)


@functions_framework.cloud_event
def snapshot_worker(event: Any) -> None:
    """Topic `dumont-snapshot`: take the operation as far as it goes now."""
    from dumont.edge import events

    events.work(event)
