"""`POST /hibernate`: put a running machine to sleep, its workspace saved first; the worker does it."""

from typing import Any

import functions_framework

from dumont.domain.records import Role
from dumont.edge import answers
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import HibernateRequest
from dumont.operations import hibernate as operation


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def hibernate(call: Call) -> Answer:
    """The body has a `name` and a `tier`: "hibernate" keeps the snapshot alone, "pause" the stopped instance too."""
    if call.path:
        raise no_such_path(call)
    wish = call.body(HibernateRequest)
    op = operation.request(call.ports, wish.name, tier=wish.tier, requested_by=call.caller, request_id=call.request_id)
    return answers.accepted(call.ports, op)


@functions_framework.cloud_event
def hibernate_worker(event: Any) -> None:
    """Topic `dumont-hibernate`: take the operation as far as it goes now."""
    from dumont.edge import events

    events.work(event)
