"""The routes of the functions that rent, use, save and give up machines, and of those that show them."""

from __future__ import annotations

from typing import Any

from dumont.edge import jobs as edge_jobs
from dumont.edge import requests as sent
from dumont.openapi import bodies, shapes
from dumont.openapi.routes import Content, Route
from dumont.openapi.shapes import many, maybe, shape

_ACCEPTED = shape(
    "Accepted",
    "The operation that a request became, with its snapshot if it is about one.",
    operation=shapes.OperationView,
    snapshot=maybe(shapes.SnapshotView),
)
_MACHINE_ACCEPTED = shape(
    "MachineAccepted",
    "The operation that a request became, and its machine.",
    machine=shapes.MachineView,
    operation=shapes.OperationView,
)
_PROVISIONED = shape(
    "Provisioned",
    "The operation that a request became, its machine, and the budget that every machine has together.",
    machine=shapes.MachineView,
    operation=shapes.OperationView,
    default_budget=maybe(shape("DefaultBudget", "What all machines may cost together.", usd_per_day=float)),
)
_AWAKE = shape("Awake", "The machine, which is awake already.", machine=shapes.MachineView)
_SNAPSHOTS = shape("Snapshots", "Some snapshots.", snapshots=many(shapes.SnapshotView))
_ONE_SNAPSHOT = shape("OneSnapshot", "One snapshot.", snapshot=shapes.SnapshotView)
_MACHINES = shape("Machines", "The machines, oldest first.", machines=many(shapes.MachineView))
_ONE_MACHINE = shape(
    "MachineWithInstances",
    "One machine, and each rental of its present life.",
    machine=shapes.MachineView,
    instances=many(shapes.InstanceView),
)
_LOGS = shape("Logs", "The last lines of a log.", machine=str, lines=list[str])
_OPERATIONS = shape("Operations", "The newest first.", operations=many(shapes.OperationView))
_ONE_OPERATION = shape("OneOperation", "One operation.", operation=shapes.OperationView)
_ROUTES = shape("Routes", "Of each machine that has a route or will.", routes=many(shapes.Route))
_ONE_ROUTE = shape("OneRoute", "Where a name leads.", route=shapes.Route)
_IDLE = shape("IdleAnswer", "Whether a machine is idle.", idle=shapes.Idle)
_JOB_ACCEPTED = shape(
    "JobAccepted",
    "The job, and the operation that rents its machine.",
    job=shapes.JobView,
    operation=shapes.Begun,
)
_JOBS = shape("Jobs", "The newest first.", jobs=many(shapes.JobView))
_ONE_JOB = shape("OneJob", "One job.", job=shapes.JobView)
_JOB_WITH_LOG = shape("JobWithLog", "One job.", job=shapes.JobView, log=maybe(shapes.Log))


def _begins(path: str, summary: str, answer: Content, **more: Any) -> Route:
    """A change that becomes an operation: 202, and where to ask for it."""
    return Route("POST", path, summary, {202: answer}, located=True, **more)


_WHICH_JOB = "A job is named by its id, or by the machine that is rented for it."

FUNCTIONS: dict[str, tuple[Route, ...]] = {
    "provision": (
        _begins(
            "", "Rent a machine", _PROVISIONED, body=(bodies.ProvisionRequest, bodies.TemplatedRequest), refusals=(402,)
        ),
    ),
    "destroy": (
        _begins(
            "",
            "Give a machine up",
            _MACHINE_ACCEPTED,
            body=sent.DestroyRequest,
            says="Refused while the machine holds files that no snapshot has, but for `discard` or `snapshot`.",
        ),
    ),
    "failover": (
        _begins(
            "", "Move a machine to another host, or rehearse it", _ACCEPTED, body=sent.FailoverRequest, refusals=(402,)
        ),
    ),
    "hibernate": (_begins("", "Put a machine to sleep", _ACCEPTED, body=sent.HibernateRequest),),
    "wake": (
        Route(
            "POST",
            "",
            "Wake a machine",
            {200: _AWAKE, 202: _ACCEPTED},
            body=sent.WakeRequest,
            located=True,
            refusals=(402,),
        ),
    ),
    "restore": (_begins("", "Put a snapshot's files into a machine", _ACCEPTED, body=sent.RestoreRequest),),
    "snapshot": (
        Route("GET", "", "The snapshots", {200: _SNAPSHOTS}, arguments=sent.ListSnapshots),
        _begins("", "Copy a workspace", _ACCEPTED, body=sent.SnapshotRequest),
        Route("GET", "/{id}", "One snapshot", {200: _ONE_SNAPSHOT}),
        Route("DELETE", "/{id}", "Remove a snapshot", {200: _ONE_SNAPSHOT}),
        Route(
            "POST", "/{id}/keep", "Keep a snapshot for ever, or no longer", {200: _ONE_SNAPSHOT}, body=sent.KeepRequest
        ),
        _begins("/{id}/verify", "Read a snapshot back whole", _ACCEPTED),
        _begins("/{id}/diff", "Compare two snapshots", _ACCEPTED, body=sent.DiffRequest),
    ),
    "machines": (
        Route("GET", "", "The machines", {200: _MACHINES}, arguments=sent.ListMachines),
        Route("GET", "/{name}", "One machine with its rentals", {200: _ONE_MACHINE}),
        Route("GET", "/{name}/logs", "The log of a machine's instance", {200: _LOGS}, arguments=sent.TailLogs),
    ),
    "operations": (
        Route("GET", "", "The newest operations", {200: _OPERATIONS}, arguments=sent.ListOperations),
        Route("GET", "/{id}", "One operation", {200: _ONE_OPERATION}),
    ),
    "routes": (
        Route("GET", "", "Where all names lead now", {200: _ROUTES}),
        Route("GET", "/{name}", "Where a machine's name leads now", {200: _ONE_ROUTE}),
    ),
    "idle": (
        Route("GET", "/{name}", "Whether a machine is idle, and why", {200: _IDLE}),
        Route("POST", "/{name}/keep", "Keep a machine awake", {200: _IDLE}, body=sent.KeepAwakeRequest),
    ),
    "jobs": (
        _begins("", "Run a command that ends", _JOB_ACCEPTED, body=bodies.JobWish, refusals=(402,)),
        Route("GET", "", "The newest jobs", {200: _JOBS}, arguments=edge_jobs.ListJobs),
        Route("GET", "/{id}", "One job, and the end of its log", {200: _JOB_WITH_LOG}, says=_WHICH_JOB),
        Route("POST", "/{id}/cancel", "End a job", {202: _ONE_JOB}, body=edge_jobs.CancelRequest, says=_WHICH_JOB),
    ),
}
