"""`GET /operations`, `GET /operations/ID`: what was done to machines, step by step, with its cost."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import ListOperations
from dumont.operations import look


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER})
def operations(call: Call) -> Answer:
    """The newest operations, of one machine or of all, or one operation."""
    match call.path:
        case []:
            wish = call.arguments(ListOperations)
            found = look.operations(call.ports, machine_name=wish.machine, limit=wish.limit)
            return Answer({"operations": [views.operation(seen) for seen in found]})
        case [operation_id]:
            return Answer({"operation": views.operation(look.operation(call.ports, operation_id))})
    raise no_such_path(call)
