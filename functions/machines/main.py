"""`GET /machines`, `GET /machines/NAME`, `GET /machines/NAME/logs`."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import views
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import ListMachines, TailLogs
from dumont.operations import look


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER})
def machines(call: Call) -> Answer:
    """The machines, one machine with its rentals, or the log of its instance."""
    match call.path:
        case []:
            found = look.machines(call.ports, destroyed_too=call.arguments(ListMachines).all)
            return Answer({"machines": [views.machine(seen) for seen in found]})
        case [name]:
            return Answer(views.machine_with_instances(look.machine(call.ports, name)))
        case [name, "logs"]:
            lines = look.logs(call.ports, name, tail=call.arguments(TailLogs).tail)
            return Answer({"machine": name, "lines": lines})
    raise no_such_path(call)
