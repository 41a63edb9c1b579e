"""`POST /provision` accepts a machine (202 and an operation); the worker rents, races and proves."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import read_provision
from dumont.operations import budget_settings, look
from dumont.operations import provision as operation


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def provision(call: Call) -> Answer:
    """The body has a `name` and the fields of `MachineSpec`."""
    if call.path:
        raise no_such_path(call)
    name, spec = read_provision(call)
    machine, op = operation.request(call.ports, name, spec, requested_by=call.caller, request_id=call.request_id)
    body = {
        "machine": views.machine(look.machine(call.ports, machine.id)),
        "operation": views.operation(look.operation(call.ports, op.id)),
    }
    by_default = budget_settings.default_limit(call.ports)
    if by_default is not None:
        body["default_budget"] = {"usd_per_day": by_default}
    return Answer(body, 202, {"Location": f"/operations/{op.id}"})


@functions_framework.cloud_event
def provision_worker(event: Any) -> None:
    """Topic `dumont-provision`: take the operation as far as it goes now."""
    from dumont.edge import events

    events.work(event)
