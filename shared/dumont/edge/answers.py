"""The answers that several functions give."""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain.records import Operation
from dumont.domain.snapshots import Snapshot
from dumont.edge import views
from dumont.edge.http import Answer
from dumont.operations import look
from dumont.ports import Ports


def accepted(ports: Ports, op: Operation) -> Answer:
    """202: the operation that a request became, with its snapshot if it is about one."""
    body = {"operation": views.operation(look.operation(ports, op.id))}
    if op.snapshot_id is not None:
        body["snapshot"] = views.snapshot(look.snapshot(ports, op.snapshot_id))
    return Answer(body, 202, {"Location": f"/operations/{op.id}"})


def snapshot(record: Snapshot) -> Answer:
    """One snapshot."""
    return Answer({"snapshot": views.snapshot(record)})


def snapshots(records: Sequence[Snapshot]) -> Answer:
    """Some snapshots."""
    return Answer({"snapshots": [views.snapshot(record) for record in records]})
