"""`GET /costs`, `GET /costs/savings`, `GET /costs/reconcile` (compare with the market's bill), `POST` (and enter)."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.money import CostsRequest
from dumont.operations import reconcile, spending


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR})
def costs(call: Call) -> Answer:
    """What was spent, what was saved, and whether the market's bill agrees."""
    asked = call.arguments(CostsRequest)
    from_time, to_time = asked.times()
    match call.request.method, call.path:
        case "GET", []:
            found = spending.costs(
                call.ports, machine=asked.machine, from_time=from_time, to_time=to_time, by=asked.by, zone=asked.zone
            )
            return Answer({"costs": found})
        case "GET", ["savings"]:
            saved = spending.saved(call.ports, machine=asked.machine, from_time=from_time, to_time=to_time)
            return Answer({"savings": saved})
        case method, ["reconcile"]:
            start, end = spending.window(call.ports, from_time, to_time)
            compared = reconcile.reconcile(call.ports, from_time=start, to_time=end, enter=method == "POST")
            return Answer({"providers": compared})
    raise no_such_path(call)
