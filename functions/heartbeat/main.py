"""`POST /heartbeat`: an agent reports, and learns what it is to do. Its token is its proof."""

import functions_framework

from dumont.domain.heartbeats import Report
from dumont.domain.records import Role
from dumont.edge.agents import identity_of
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations.heartbeats import receive


@functions_framework.http
@endpoint(methods={"POST": Role.VIEWER}, open_to_the_world=True)
def heartbeat(call: Call) -> Answer:
    """The body is a `Report`, the answer a `Reply`."""
    if call.path:
        raise no_such_path(call)
    identity = identity_of(call)
    return Answer(receive(call.ports, identity, call.body(Report)))
