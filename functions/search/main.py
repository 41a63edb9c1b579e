"""`GET|POST /search`: offers of all markets, ranked by what they cost to finish a job."""

import functions_framework

from dumont.domain.offers import OfferQuery
from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations import look


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.VIEWER})
def search(call: Call) -> Answer:
    """Filters as query arguments or as a JSON body; both are fields of `OfferQuery`."""
    if call.path:
        raise no_such_path(call)
    query = call.arguments(OfferQuery) if call.request.method == "GET" else call.body(OfferQuery)
    return Answer(look.search(call.ports, query))
