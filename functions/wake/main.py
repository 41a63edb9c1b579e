"""`POST /wake`: wake a machine that sleeps; the worker starts what was kept, or races and restores."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import answers, views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import WakeRequest
from dumont.operations import look
from dumont.operations import wake as operation


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def wake(call: Call) -> Answer:
    """The body has a `name`. 202 and an operation, or 200 and the machine, which is awake already."""
    if call.path:
        raise no_such_path(call)
    name = call.body(WakeRequest).name
    op = operation.request(call.ports, name, requested_by=call.caller, request_id=call.request_id)
    if op is None:
        return Answer({"machine": views.machine(look.machine(call.ports, name))})
    return answers.accepted(call.ports, op)


@functions_framework.cloud_event
def wake_worker(event: Any) -> None:
    """Topic `dumont-wake`: take the operation as far as it goes now."""
    from dumont.edge import events

    events.work(event)
