"""`POST /token`: with an API key, a token (JWT) that is good for minutes, and for no more than the key."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import key_views as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path


@functions_framework.http
@endpoint(methods={"POST": Role.VIEWER}, issues=True)
def token(call: Call) -> Answer:
    """Optional: `role`, no greater than the key's, and `seconds`, at most an hour."""
    if call.path:
        raise no_such_path(call)
    return edge.token(call)
