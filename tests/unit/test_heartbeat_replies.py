"""What a heartbeat is answered: of all that call in a machine's name, one is to serve (invariant 1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import heartbeats
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState

SPEC = MachineSpec(gpu="RTX 4090", run="python serve.py", heartbeat_seconds=5.0, fence_after_seconds=30.0)
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.2)


def machine(state: MachineState, *, epoch: int = 2, instance_id: str | None = "b") -> Machine:
    return Machine(id="ada", spec=SPEC, state=state, epoch=epoch, created_at=0, updated_at=0, instance_id=instance_id)


def instance(name: str, state: InstanceState, *, epoch: int = 2) -> Instance:
    return Instance(
        id=name, machine="ada", epoch=epoch, rented_by="op", operation_id="op", provider="vast", offer=OFFER,
        disk_gb=10, state=state, intended_at=0,
    )  # fmt: skip


def state_of(who: Machine | None, record: Instance | None, name: str, epoch: int) -> str:
    return heartbeats.reply(who, record, instance_id=name, epoch=epoch).state


def test_the_machines_own_instance_serves_with_the_workload() -> None:
    answer = heartbeats.reply(machine(MachineState.RUNNING), None, instance_id="b", epoch=2)
    assert answer.state == "serve"
    assert answer.workload is not None
    assert answer.workload.run == "python serve.py"
    assert answer.lease_seconds == 30.0


def test_one_that_was_taken_back_serves_with_the_token_of_its_old_epoch() -> None:
    assert state_of(machine(MachineState.RUNNING, epoch=7), None, "b", 2) == "serve"


def test_an_older_epoch_is_fenced_and_told_to_go_once_it_is_released() -> None:
    old = heartbeats.reply(
        machine(MachineState.RUNNING), instance("a", InstanceState.RELEASING, epoch=1), instance_id="a", epoch=1
    )
    assert (old.state, old.destroy, old.workload) == ("fenced", True, None)


def test_a_lost_host_is_fenced_and_keeps_what_it_has() -> None:
    lost = heartbeats.reply(
        machine(MachineState.FAILING_OVER, instance_id=None),
        instance("a", InstanceState.LOST, epoch=1),
        instance_id="a",
        epoch=1,
    )
    assert (lost.state, lost.destroy) == ("fenced", False)


def test_racers_wait_and_report_often() -> None:
    racing = machine(MachineState.FAILING_OVER, instance_id=None)
    answer = heartbeats.reply(racing, instance("c", InstanceState.CREATED), instance_id="c", epoch=2)
    assert (answer.state, answer.workload, answer.interval_seconds) == ("wait", None, 1.0)


def test_what_is_put_to_sleep_stops_its_workload_and_stays() -> None:
    answer = heartbeats.reply(
        machine(MachineState.HIBERNATING), instance("b", InstanceState.PROVEN), instance_id="b", epoch=2
    )
    assert (answer.state, answer.workload, answer.destroy) == ("wait", None, False)


def test_what_is_being_destroyed_serves_no_more() -> None:
    answer = heartbeats.reply(
        machine(MachineState.DESTROYING), instance("b", InstanceState.RELEASING), instance_id="b", epoch=2
    )
    assert (answer.state, answer.destroy) == ("fenced", True)


def test_a_machine_that_nobody_knows_serves_nowhere_and_nothing_of_it_is_destroyed() -> None:
    answer = heartbeats.reply(None, None, instance_id="x", epoch=1)
    assert (answer.state, answer.destroy) == ("fenced", False)


@given(
    st.sampled_from(list(MachineState)),
    st.sampled_from([None, "a", "b", "c"]),
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 5), st.sampled_from(list(InstanceState)))),
)
def test_of_all_that_call_one_at_most_serves(
    state: MachineState, current: str | None, epoch: int, callers: list[tuple[str, int, InstanceState]]
) -> None:
    who = machine(state, epoch=epoch, instance_id=current)
    serving = {
        name
        for name, token_epoch, kind in callers
        if state_of(who, instance(name, kind, epoch=token_epoch), name, token_epoch) == "serve"
    }
    assert len(serving) <= 1
    assert not serving or state is MachineState.RUNNING
