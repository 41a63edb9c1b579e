"""`GET /idle/NAME`: is it idle, and why or why not. `POST /idle/NAME/keep`: keep it awake for so many seconds."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import idle_views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import KeepAwakeRequest
from dumont.operations import idle as do


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR})
def idle(call: Call) -> Answer:
    """What is known of a machine's use; after a keep-alive, with it."""
    match call.request.method, call.path:
        case "GET", [name]:
            pass
        case "POST", [name, "keep"]:
            do.keep(call.ports, name, seconds=call.body(KeepAwakeRequest).seconds)
        case _:
            raise no_such_path(call)
    return Answer({"idle": idle_views.idle(do.look(call.ports, name))})
