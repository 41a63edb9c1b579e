"""`POST /destroy` accepts the end of a machine (202 and an operation); the worker releases all that it rented."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import DestroyRequest
from dumont.operations import look
from dumont.operations.destroy import request


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def destroy(call: Call) -> Answer:
    """The body has a `name`; `discard` if the workspace may be lost, or `snapshot` if it is to be saved first."""
    if call.path:
        raise no_such_path(call)
    wish = call.body(DestroyRequest)
    machine, op = request(
        call.ports, wish.name, discard=wish.discard, snapshot_first=wish.snapshot,
        requested_by=call.caller, request_id=call.request_id,
    )  # fmt: skip
    body = {
        "machine": views.machine(look.machine(call.ports, machine.id)),
        "operation": views.operation(look.operation(call.ports, op.id)),
    }
    return Answer(body, 202, {"Location": f"/operations/{op.id}"})


@functions_framework.cloud_event
def destroy_worker(event: Any) -> None:
    """Topic `dumont-destroy`: take the operation as far as it goes now. Reaps come here too."""
    from dumont.edge import events

    events.work(event)
