"""The routes of the functions that rent, use, save and give up machines, and of those that show them."""

from __future__ import annotations

from dumont.edge import jobs as edge_jobs
from dumont.edge import requests as sent
from dumont.openapi import bodies, shapes
from dumont.openapi.routes import FunctionRoutes, Route
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
_ONE_SNAPSHOT = shape("OneSnapshot", "One snapshot.", snapshot=shapes.SnapshotView)
_IDLE = shape("IdleAnswer", "Whether a machine is idle.", idle=shapes.Idle)
_ONE_JOB = shape("OneJob", "One job.", job=shapes.JobView)

_WHICH_JOB = "A job is named by its id, or by the machine that is rented for it."

FUNCTIONS = (
    FunctionRoutes(
        "provision",
        (
            Route(
                method="POST",
                summary="Rent a machine",
                body=(bodies.ProvisionRequest, bodies.TemplatedRequest),
                answers={202: _PROVISIONED},
                located=True,
                refusals=(402,),
            ),
        ),
    ),
    FunctionRoutes(
        "destroy",
        (
            Route(
                method="POST",
                summary="Give a machine up",
                body=sent.DestroyRequest,
                answers={202: _MACHINE_ACCEPTED},
                located=True,
                says="Refused while the machine holds files that no snapshot has, but for `discard` or `snapshot`.",
            ),
        ),
    ),
    FunctionRoutes(
        "failover",
        (
            Route(
                method="POST",
                summary="Move a machine to another host, or rehearse it",
                body=sent.FailoverRequest,
                answers={202: _ACCEPTED},
                located=True,
                refusals=(402,),
            ),
        ),
    ),
    FunctionRoutes(
        "hibernate",
        (
            Route(
                method="POST",
                summary="Put a machine to sleep",
                body=sent.HibernateRequest,
                answers={202: _ACCEPTED},
                located=True,
            ),
        ),
    ),
    FunctionRoutes(
        "wake",
        (
            Route(
                method="POST",
                summary="Wake a machine",
                body=sent.WakeRequest,
                answers={
                    200: shape("Awake", "The machine, which is awake already.", machine=shapes.MachineView),
                    202: _ACCEPTED,
                },
                located=True,
                refusals=(402,),
            ),
        ),
    ),
    FunctionRoutes(
        "restore",
        (
            Route(
                method="POST",
                summary="Put a snapshot's files into a machine",
                body=sent.RestoreRequest,
                answers={202: _ACCEPTED},
                located=True,
            ),
        ),
    ),
    FunctionRoutes(
        "snapshot",
        (
            Route(
                method="GET",
                summary="The snapshots",
                arguments=sent.ListSnapshots,
                answers={200: shape("Snapshots", "Some snapshots.", snapshots=many(shapes.SnapshotView))},
            ),
            Route(
                method="POST",
                summary="Copy a workspace",
                body=sent.SnapshotRequest,
                answers={202: _ACCEPTED},
                located=True,
            ),
            Route(method="GET", path="/{id}", summary="One snapshot", answers={200: _ONE_SNAPSHOT}),
            Route(method="DELETE", path="/{id}", summary="Remove a snapshot", answers={200: _ONE_SNAPSHOT}),
            Route(
                method="POST",
                path="/{id}/keep",
                summary="Keep a snapshot for ever, or no longer",
                body=sent.KeepRequest,
                answers={200: _ONE_SNAPSHOT},
            ),
            Route(
                method="POST",
                path="/{id}/verify",
                summary="Read a snapshot back whole",
                answers={202: _ACCEPTED},
                located=True,
            ),
            Route(
                method="POST",
                path="/{id}/diff",
                summary="Compare two snapshots",
                body=sent.DiffRequest,
                answers={202: _ACCEPTED},
                located=True,
            ),
        ),
    ),
    FunctionRoutes(
        "machines",
        (
            Route(
                method="GET",
                summary="The machines",
                arguments=sent.ListMachines,
                answers={200: shape("Machines", "The machines, oldest first.", machines=many(shapes.MachineView))},
            ),
            Route(
                method="GET",
                path="/{name}",
                summary="One machine with its rentals",
                answers={
                    200: shape(
                        "MachineWithInstances",
                        "One machine, and each rental of its present life.",
                        machine=shapes.MachineView,
                        instances=many(shapes.InstanceView),
                    )
                },
            ),
            Route(
                method="GET",
                path="/{name}/logs",
                summary="The log of a machine's instance",
                arguments=sent.TailLogs,
                answers={200: shape("Logs", "The last lines of a log.", machine=str, lines=list[str])},
            ),
        ),
    ),
    FunctionRoutes(
        "operations",
        (
            Route(
                method="GET",
                summary="The newest operations",
                arguments=sent.ListOperations,
                answers={200: shape("Operations", "The newest first.", operations=many(shapes.OperationView))},
            ),
            Route(
                method="GET",
                path="/{id}",
                summary="One operation",
                answers={200: shape("OneOperation", "One operation.", operation=shapes.OperationView)},
            ),
        ),
    ),
    FunctionRoutes(
        "routes",
        (
            Route(
                method="GET",
                summary="Where all names lead now",
                answers={200: shape("Routes", "Of each machine that has a route or will.", routes=many(shapes.Route))},
            ),
            Route(
                method="GET",
                path="/{name}",
                summary="Where a machine's name leads now",
                answers={200: shape("OneRoute", "Where a name leads.", route=shapes.Route)},
            ),
        ),
    ),
    FunctionRoutes(
        "idle",
        (
            Route(method="GET", path="/{name}", summary="Whether a machine is idle, and why", answers={200: _IDLE}),
            Route(
                method="POST",
                path="/{name}/keep",
                summary="Keep a machine awake",
                body=sent.KeepAwakeRequest,
                answers={200: _IDLE},
            ),
        ),
    ),
    FunctionRoutes(
        "jobs",
        (
            Route(
                method="POST",
                summary="Run a command that ends",
                body=bodies.JobWish,
                answers={
                    202: shape(
                        "JobAccepted",
                        "The job, and the operation that rents its machine.",
                        job=shapes.JobView,
                        operation=shapes.Begun,
                    )
                },
                located=True,
                refusals=(402,),
            ),
            Route(
                method="GET",
                summary="The newest jobs",
                arguments=edge_jobs.ListJobs,
                answers={200: shape("Jobs", "The newest first.", jobs=many(shapes.JobView))},
            ),
            Route(
                method="GET",
                path="/{id}",
                summary="One job, and the end of its log",
                answers={200: shape("JobWithLog", "One job.", job=shapes.JobView, log=maybe(shapes.Log))},
                says=_WHICH_JOB,
            ),
            Route(
                method="POST",
                path="/{id}/cancel",
                summary="End a job",
                body=edge_jobs.CancelRequest,
                answers={202: _ONE_JOB},
                says=_WHICH_JOB,
            ),
        ),
    ),
)
