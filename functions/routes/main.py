"""`GET /routes`, `GET /routes/NAME`: where machines' names lead now."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations import look


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER})
def routes(call: Call) -> Answer:
    """The route of one machine, or of each that has one or will have one again by itself."""
    match call.path:
        case []:
            return Answer({"routes": [views.route(machine) for machine in look.routes(call.ports)]})
        case [name]:
            return Answer({"route": views.route(look.route(call.ports, name))})
    raise no_such_path(call)
