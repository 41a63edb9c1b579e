"""`/subscriptions`: webhooks out, as Standard Webhooks has them; the worker carries them."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import subscriptions as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR, "DELETE": Role.OPERATOR})
def subscriptions(call: Call) -> Answer:
    """`/ID`, and below it `rotate`, `test`, `replay`, `deliveries`, `deliveries/ID`, `deliveries/ID/replay`."""
    match call.request.method, call.path:
        case "GET", []:
            return edge.every(call)
        case "POST", []:
            return edge.create(call)
        case "GET", [which]:
            return edge.show(call, which)
        case "POST", [which]:
            return edge.change(call, which)
        case "DELETE", [which]:
            return edge.delete(call, which)
        case "GET", [which, "deliveries", *rest] if len(rest) < 2:
            return edge.log_of(call, which, *rest)
        case "POST", [which, wish, *rest]:
            return edge.wished(call, which, wish, *rest)
    raise no_such_path(call)


@functions_framework.cloud_event
def subscriptions_worker(event: object) -> None:
    """Topic `dumont-subscriptions`: try the delivery that is named."""
    from dumont.edge import delivering  # its imports are many, and the door needs none of them

    delivering.work(event)
