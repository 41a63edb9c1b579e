"""Doors of snapshots: take, list, show, keep, verify, compare, remove. The worker runs them all, and restores."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import answers, events
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import DiffRequest, KeepRequest, ListSnapshots, SnapshotRequest
from dumont.operations import look
from dumont.operations import snapshot as do


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR, "DELETE": Role.OPERATOR})
def snapshot(call: Call) -> Answer:
    ports, by = call.ports, call.caller
    match call.request.method, call.path:
        case "GET", []:
            return answers.snapshots(look.snapshots(ports, machine_name=call.arguments(ListSnapshots).machine))
        case "GET", [which]:
            return answers.snapshot(look.snapshot(ports, which))
        case "DELETE", [which]:
            return answers.snapshot(do.remove(ports, which))
        case "POST", [which, "keep"]:
            return answers.snapshot(do.keep(ports, which, wanted=call.body(KeepRequest).keep))
        case "POST", []:
            wish = call.body(SnapshotRequest)
            op = do.request_snapshot(ports, wish.name, rehash=wish.rehash, requested_by=by)
        case "POST", [which, "verify"]:
            op = do.request_reading(ports, which, requested_by=by)
        case "POST", [which, "diff"]:
            op = do.request_reading(ports, which, other_id=call.body(DiffRequest).other, requested_by=by)
        case _:
            raise no_such_path(call)
    return answers.accepted(ports, op)


@functions_framework.cloud_event
def snapshot_worker(event: object) -> None:
    events.work(event)
