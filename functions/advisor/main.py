"""`GET|POST /advisor`: how much GPU memory a model needs, and the offers that hold it, with what they cost."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import advising as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations import advising


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.VIEWER})
def advisor(call: Call) -> Answer:
    """A model by any name, and filters, as query arguments or as a JSON body: fields of `AdvisorQuery`."""
    if call.path:
        raise no_such_path(call)
    shape = advising.AdvisorQuery
    wish = call.arguments(shape) if call.request.method == "GET" else call.body(shape)
    return Answer({"advice": edge.advice(advising.advise(call.ports, wish))})
