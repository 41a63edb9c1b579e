"""`GET /costs`, `GET /costs/savings`, `GET /costs/reconcile` (compare with the market's bill), `POST` (and enter)."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.money import CostsRequest, SavingsRequest, SpanRequest
from dumont.operations import reconcile, spending


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR})
def costs(call: Call) -> Answer:
    """What was spent, what was saved, and whether the market's bill agrees."""
    match call.request.method, call.path:
        case "GET", []:
            asked = call.arguments(CostsRequest)
            start, end = asked.times()
            found = spending.costs(
                call.ports, machine=asked.machine, from_time=start, to_time=end, by=asked.by, zone=asked.zone
            )
            return Answer({"costs": found})
        case "GET", ["savings"]:
            of = call.arguments(SavingsRequest)
            start, end = of.times()
            return Answer({"savings": spending.saved(call.ports, machine=of.machine, from_time=start, to_time=end)})
        case method, ["reconcile"]:
            within = spending.window(call.ports, *call.arguments(SpanRequest).times())
            enter = method == "POST"
            compared = reconcile.reconcile(call.ports, from_time=within[0], to_time=within[1], enter=enter)
            return Answer({"providers": compared})
    raise no_such_path(call)
