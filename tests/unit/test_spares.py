"""When a spare is made, brought up to date, stopped, given up; and what a failover does with it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from dumont.domain import failover, provisioning, spares
from dumont.domain.actions import GiveUp, HandOver, Look, Settle, Start, Stop, Try, Wait
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.domain.snapshots import Snapshot, SnapshotState

NOW = 10_000.0
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.4)
SPARE = Instance(
    id="spare", machine="ada", epoch=1, rented_by="op-old", operation_id="op-1", provider="vast", offer=OFFER,
    disk_gb=20.0, state=InstanceState.PROVEN, intended_at=1.0, created_at=1.0, keys_attached=True, standby=True,
    provider_instance_id="7", restored_snapshot_id="snap-2",
)  # fmt: skip
OP = Operation(
    id="op-1", kind=OperationKind.SPARE, machine="ada", epoch=1, phase=provisioning.RACE, created_at=NOW - 10,
    updated_at=NOW, snapshot_id="snap-2",
)  # fmt: skip


def machine(spare: str = "running", **fields: object) -> Machine:
    made = Machine(
        id="ada", spec=MachineSpec(gpu="RTX 4090", spare=spare), state=MachineState.RUNNING, epoch=1, created_at=0.0,  # type: ignore[arg-type]
        updated_at=0.0, instance_id="serving", spare_instance_id="spare", spare_operation_id="op-1",
    )  # fmt: skip
    return replace(made, **fields)


def snap(number: int, at: float) -> Snapshot:
    return Snapshot(
        id=f"snap-{number}", machine="ada", epoch=1, operation_id="op", state=SnapshotState.COMPLETE, created_at=at,
        completed_at=at,
    )  # fmt: skip


OLD, NEW = snap(1, 1000.0), snap(2, 1000.0 + 1800.0)


def need(kept: Machine, spare: Instance | None, newest: Snapshot | None = NEW) -> str | None:
    return spares.need(kept, spare, newest, [OLD, NEW], NOW).why


def test_a_spare_that_is_there_and_up_to_date_needs_nothing() -> None:
    assert need(machine(), SPARE) is None


def test_one_is_made_once_there_is_a_snapshot_or_nothing_to_lose() -> None:
    assert need(machine(), None, None) is None
    assert need(machine(), None) == "there is none"
    stateless = machine(spec=MachineSpec(gpu="RTX 4090", spare="running", stateless=True))
    assert need(stateless, None, None) == "there is none"


def test_after_a_failure_the_next_try_waits() -> None:
    found = spares.need(machine(spare_after=NOW + 50), None, NEW, [NEW], NOW)
    assert (found.why, found.look_at) == (None, NOW + 50)
    assert spares.again_after_seconds(0) == 60.0
    assert spares.again_after_seconds(50) == 3600.0


def test_a_running_one_is_refreshed_at_once_and_a_stopped_one_only_when_it_is_far_behind() -> None:
    behind = replace(SPARE, restored_snapshot_id="snap-1")
    assert need(machine(), behind) == "there is a newer snapshot"
    parked = replace(behind, state=InstanceState.STOPPED, next_check_at=NOW + 5)
    assert need(machine("stopped"), parked) is None, "30 minutes behind, and an hour is allowed"
    later = replace(NEW, created_at=OLD.created_at + 3600.0)
    assert spares.need(machine("stopped"), parked, later, [OLD, later], NOW).why == "there is a newer snapshot"


@pytest.mark.parametrize("state", [MachineState.FAILING_OVER, MachineState.HIBERNATING, MachineState.DESTROYING])
def test_a_machine_that_does_not_run_gets_none(state: MachineState) -> None:
    assert need(machine(state=state, spare_instance_id=None), None) is None


def test_it_is_stopped_where_that_is_the_policy_and_started_to_be_brought_up_to_date() -> None:
    parking = replace(OP, phase=spares.PARK)
    assert spares.decide(parking, machine("stopped"), [SPARE], NOW) == Stop("spare")
    parked = replace(SPARE, state=InstanceState.STOPPED, stopped_at=NOW)
    assert spares.decide(OP, machine("stopped"), [parked], NOW) == Settle("spare")
    assert spares.decide(replace(OP, snapshot_id="snap-3"), machine("stopped"), [parked], NOW) == Start("spare")


def test_a_silent_one_is_looked_at_first() -> None:
    suspected = replace(OP, suspect_instance_id="spare")
    assert spares.decide(suspected, machine(), [SPARE], NOW) == Look("spare")


def test_while_its_machine_fails_over_it_is_handed_over_and_never_let_go() -> None:
    for phase in (provisioning.RACE, provisioning.RELEASE, spares.PARK):
        falling = machine(state=MachineState.FAILING_OVER, epoch=2, instance_id=None, spare_instance_id=None)
        assert spares.decide(replace(OP, phase=phase), falling, [SPARE], NOW) == HandOver()


def test_turned_off_or_taken_over_it_is_given_up() -> None:
    assert isinstance(spares.decide(OP, machine("none"), [SPARE], NOW), GiveUp)
    assert isinstance(spares.decide(OP, machine(spare_operation_id="op-2"), [SPARE], NOW), GiveUp)
    assert isinstance(spares.decide(OP, None, [SPARE], NOW), GiveUp)


# --- In a failover ------------------------------------------------------------------------------------------------

MOVE = replace(OP, id="op-f", kind=OperationKind.FAILOVER, suspect_instance_id="serving", tried_since=NOW - 5, tried=())
JOINED = replace(SPARE, operation_id="op-f", standby=False)
LOST = replace(SPARE, id="serving", state=InstanceState.LOST, last_status="offline")
SPEC = MachineSpec(gpu="RTX 4090", spare="running")


def test_a_spare_comes_before_a_race() -> None:
    assert failover.choose(MOVE, SPEC, LOST, NOW, [JOINED]) == failover.WARM
    assert failover.choose(MOVE, SPEC, LOST, NOW, []) == failover.COLD


def test_a_stopped_hosts_own_disk_comes_before_a_spare() -> None:
    assert failover.choose(MOVE, SPEC, replace(LOST, last_status="stopped"), NOW, [JOINED]) == failover.RESUME


def test_a_spare_that_is_not_ready_in_its_time_is_joined_by_others_and_one_that_is_waits_for_the_lease() -> None:
    late = replace(MOVE, tried=(failover.WARM,), tried_since=NOW - failover.WARM_SECONDS)
    behind = replace(JOINED, restored_snapshot_id="snap-1")
    assert failover.choose(late, SPEC, LOST, NOW, [behind]) == failover.COLD
    assert failover.choose(late, SPEC, LOST, NOW, [JOINED]) == failover.WARM


def test_what_may_not_be_lost_waits_for_its_old_host_whatever_spare_there_is() -> None:
    assert failover.choose(replace(MOVE, snapshot_id=None), SPEC, LOST, NOW, [JOINED]) == failover.HOLD


def test_where_nothing_may_be_built_anew_a_host_that_was_started_in_vain_is_stopped_and_later_started_again() -> None:
    tried = (failover.RESUME, failover.HOLD)
    op = replace(MOVE, snapshot_id=None, phase=provisioning.RACE, epoch=2, tried=tried)
    falling = machine("none", state=MachineState.FAILING_OVER, epoch=2, instance_id=None, operation_id="op-f")
    booting = replace(LOST, state=InstanceState.CREATED, operation_id="op-f", next_check_at=NOW - 100.0)
    assert failover.decide(op, falling, [booting], NOW) == Stop("serving")
    unstoppable = replace(booting, problem=failover.TOO_SLOW, next_check_at=NOW + 5.0)
    assert failover.decide(op, falling, [unstoppable], NOW) == Wait(NOW + 5.0)
    stopped = replace(LOST, last_status="stopped", problem=failover.TOO_SLOW, next_check_at=NOW + 5.0)
    assert failover.decide(op, falling, [stopped], NOW) == Wait(NOW + 5.0)
    later = NOW + failover.RESUME_AGAIN_SECONDS
    again = replace(stopped, next_check_at=later + 5.0)
    assert failover.decide(op, falling, [again], later) == Try(failover.RESUME)
