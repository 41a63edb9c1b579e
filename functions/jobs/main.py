"""`POST /jobs`, `GET /jobs`, `GET /jobs/ID`, `POST /jobs/ID/cancel`; the worker brings jobs to their end."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import events
from dumont.edge import jobs as edge
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations import jobs as do


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR})
def jobs(call: Call) -> Answer:
    """A job is named by its id, or by the machine that is rented for it."""
    match call.request.method, call.path:
        case "POST", []:
            accepted = edge.accept(call)
            return Answer(accepted, 202, {"Location": f"/jobs/{accepted['job']['id']}"})
        case "GET", []:
            found = do.latest(call.ports, limit=call.arguments(edge.ListJobs).limit)
            return Answer({"jobs": [edge.view(call.ports, job) for job in found]})
        case "GET", [which]:
            return Answer(edge.with_log(call.ports, do.find(call.ports, which)))
        case "POST", [which, "cancel"]:
            wish = call.body(edge.CancelRequest)
            job = do.cancel(call.ports, which, discard=wish.discard, requested_by=call.caller)
            return Answer({"job": edge.view(call.ports, job)}, 202)
    raise no_such_path(call)


@functions_framework.cloud_event
def jobs_worker(event: object) -> None:
    """Topic `dumont-jobs`: take the operation as far as it goes now."""
    events.work(event)
