"""`GET /agent`: the program that runs on rented hosts. It is no secret; hosts check its SHA-256."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.agents import program
from dumont.edge.http import Answer, Call, endpoint, no_such_path


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER}, open_to_the_world=True)
def agent(call: Call) -> Answer:
    """The agent's file."""
    if call.path:
        raise no_such_path(call)
    return program()
