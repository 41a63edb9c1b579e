"""`POST /failover` moves a running machine to another host; the worker moves those that have died, too."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import answers
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import FailoverRequest
from dumont.operations import drills
from dumont.operations import failover as operation


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def failover(call: Call) -> Answer:
    """The body has a `name`, and `discard` if what no snapshot has may be lost; or `drill`, to rehearse it only."""
    if call.path:
        raise no_such_path(call)
    wish = call.body(FailoverRequest)
    if wish.drill:
        op = drills.request(call.ports, wish.name, requested_by=call.caller, request_id=call.request_id)
        return answers.accepted(call.ports, op)
    op = operation.request(
        call.ports, wish.name, discard=wish.discard, requested_by=call.caller, request_id=call.request_id
    )
    return answers.accepted(call.ports, op)


@functions_framework.cloud_event
def failover_worker(event: Any) -> None:
    """Topic `dumont-failover`: take the operation as far as it goes now."""
    from dumont.edge import events

    events.work(event)
