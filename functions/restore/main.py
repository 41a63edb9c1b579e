"""`POST /restore`: put a snapshot's files into a running machine's workspace, whole or not at all."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import answers
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import RestoreRequest
from dumont.operations.snapshot import request_restore


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR})
def restore(call: Call) -> Answer:
    """The body has a `name`; which `snapshot`, which `path` of it, whether to `fall_back` if it is damaged, and whether
    to `discard` what is there and in no snapshot."""
    if call.path:
        raise no_such_path(call)
    wish = call.body(RestoreRequest)
    op = request_restore(
        call.ports,
        wish.name,
        snapshot_id=wish.snapshot,
        path=wish.path,
        fall_back=wish.fall_back,
        discard=wish.discard,
        requested_by=call.caller,
    )
    return answers.accepted(call.ports, op)
