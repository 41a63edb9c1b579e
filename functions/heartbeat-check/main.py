"""`POST /heartbeat-check`: Cloud Scheduler starts it each minute; it sweeps every few seconds within that minute."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.requests import SweepRequest
from dumont.operations.sweep import sweep_for


@functions_framework.http
@endpoint(methods={"POST": Role.OPERATOR}, google_calls=True)
def heartbeat_check(call: Call) -> Answer:
    """Optional arguments: `seconds` to sweep for, and `every_seconds` between two sweeps."""
    if call.path:
        raise no_such_path(call)
    wish = call.arguments(SweepRequest)
    return Answer(sweep_for(call.ports, seconds=wish.seconds, every_seconds=wish.every_seconds))
