"""Which workflow runs which kind of operation."""

from __future__ import annotations

from collections.abc import Mapping

from dumont.domain.records import OperationKind
from dumont.operations import destroy, drills, failover, finish, hibernate, provision, snapshot, spares, wake
from dumont.operations.runner import Workflow

WORKFLOWS: Mapping[OperationKind, Workflow] = {
    OperationKind.PROVISION: provision.WORKFLOW,
    OperationKind.FAILOVER: failover.WORKFLOW,
    OperationKind.HIBERNATE: hibernate.WORKFLOW,
    OperationKind.WAKE: wake.WORKFLOW,
    OperationKind.DESTROY: destroy.WORKFLOW,
    OperationKind.SPARE: spares.WORKFLOW,
    OperationKind.DRILL: drills.WORKFLOW,
    OperationKind.REAP: destroy.REAP,
    OperationKind.SNAPSHOT: snapshot.WORKFLOW,
    OperationKind.RESTORE: snapshot.WORKFLOW,
    OperationKind.VERIFY: snapshot.WORKFLOW,
    OperationKind.DIFF: snapshot.WORKFLOW,
    OperationKind.FINISH: finish.WORKFLOW,
}
