"""`POST /keys`, `GET /keys`, `GET /keys/ID`, `POST /keys/ID/rotate`, `POST /keys/ID/revoke`: API keys, for admins."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import key_views as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path


@functions_framework.http
@endpoint(methods={"GET": Role.ADMIN, "POST": Role.ADMIN})
def keys(call: Call) -> Answer:
    """A new secret is in the answer that makes it, and never again in any."""
    match call.request.method, call.path:
        case "GET", []:
            return edge.listed(call)
        case "POST", []:
            return edge.created(call)
        case "GET", [key_id]:
            return edge.shown(call, key_id)
        case "POST", [key_id, "rotate"]:
            return edge.rotated(call, key_id)
        case "POST", [key_id, "revoke"]:
            return edge.revoked(call, key_id)
    raise no_such_path(call)
