"""`GET /audit`: what was asked to be changed, newest first; by whom, from where, and how it ended."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import audit as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path


@functions_framework.http
@endpoint(methods={"GET": Role.OPERATOR})
def audit(call: Call) -> Answer:
    """Optional arguments: `limit`, and `who`, a key's id."""
    if call.path:
        raise no_such_path(call)
    return Answer({"entries": edge.latest(call.ports.store, call.arguments(edge.ListEntries))})
