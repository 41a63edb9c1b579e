"""The decisions of operations are pure: properties that hold for any records and any moment."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import destruction, provisioning
from dumont.domain.actions import (
    Abandon,
    BeginDestroy,
    Finish,
    GiveUp,
    InspectWorkspace,
    Prove,
    Release,
    Rent,
    Survey,
    Wait,
    Win,
)
from dumont.domain.costs import total_at_most_usd
from dumont.domain.offers import Offer
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
    SshEndpoint,
)

NOW = 1_000_000.0
times = st.floats(min_value=NOW - 5000, max_value=NOW + 5000)
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.17, storage_usd_per_gb_hour=0.0001)


@st.composite
def instances(draw: st.DrawFn, states: tuple[InstanceState, ...] = tuple(InstanceState)) -> list[Instance]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        state = draw(st.sampled_from(states))
        known = state not in (InstanceState.INTENDED,) and draw(
            st.booleans() if state is InstanceState.RELEASING else st.just(True)
        )
        made.append(
            Instance(
                id=f"label-{number}", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast",
                offer=OFFER, disk_gb=20, state=state, open=state is not InstanceState.GONE,
                intended_at=draw(times), outcome_unknown=state is InstanceState.INTENDED,
                provider_instance_id=str(number) if known else None,
                created_at=draw(times) if known else None,
                booted_at=draw(st.none() | times) if known else None,
                gone_at=draw(times) if state is InstanceState.GONE else None,
                keys_attached=draw(st.booleans()), next_check_at=draw(times), tries=draw(st.integers(0, 50)),
                ssh=SshEndpoint(host="h", port=1),
            )
        )  # fmt: skip
    return made


@st.composite
def provisions(draw: st.DrawFn, phases: tuple[str, ...] = ("start", "race", "release", "give_up")) -> Operation:
    return Operation(
        id="op-1", kind=OperationKind.PROVISION, machine="ada", epoch=1, created_at=NOW - draw(st.floats(0, 5000)),
        updated_at=draw(times), phase=draw(st.sampled_from(phases)), rounds=draw(st.integers(0, 5)),
        tries=draw(st.integers(0, 10)), not_before=draw(times),
        candidates=tuple(replace(OFFER, id=str(n)) for n in range(draw(st.integers(0, 4)))),
        problem=draw(st.none() | st.just(Problem(code="x", detail="y"))),
    )  # fmt: skip


machines = st.builds(
    Machine, id=st.just("ada"), epoch=st.integers(1, 3), created_at=times, updated_at=times,
    state=st.sampled_from(tuple(MachineState)), operation_id=st.sampled_from(["op-1", "op-2", None]),
    instance_id=st.sampled_from(["label-0", "label-1", None]),
    spec=st.builds(
        MachineSpec, gpu=st.just("RTX 4090"), race_width=st.integers(1, 5), budget_usd=st.none() | st.floats(0.001, 5)
    ),
)  # fmt: skip


@given(provisions(), st.none() | machines, instances())
def test_a_provision_always_knows_what_to_do_next(
    op: Operation, machine: Machine | None, books: list[Instance]
) -> None:
    action = provisioning.decide(op, machine, books, NOW)
    if isinstance(action, Wait):
        assert action.until > NOW, "a wait that is over at once would be a busy loop"


@given(provisions(("start", "race", "give_up")), machines, instances())
def test_a_provision_that_lost_its_machine_touches_nothing(
    op: Operation, machine: Machine, books: list[Instance]
) -> None:
    if machine.operation_id != op.id or machine.epoch != op.epoch:
        assert provisioning.decide(op, machine, books, NOW) == Abandon()


@given(provisions(("start", "race")), machines, instances())
def test_a_race_is_never_wider_than_asked_and_never_a_launch_storm(
    op: Operation, machine: Machine, books: list[Instance]
) -> None:
    if isinstance(provisioning.decide(op, machine, books, NOW), Rent):
        racing = [i for i in books if provisioning.contends(i, NOW)]
        assert len(racing) < machine.spec.race_width
        assert sum(provisioning.may_have_rented(i) for i in books) < provisioning.max_rentals(machine.spec)


@given(provisions(("start", "race")), machines, instances())
def test_only_what_proved_itself_wins(op: Operation, machine: Machine, books: list[Instance]) -> None:
    action = provisioning.decide(op, machine, books, NOW)
    if isinstance(action, Win):
        winner = next(i for i in books if i.id == action.instance_id)
        assert winner.state is InstanceState.PROVEN
    if isinstance(action, Prove):
        assert next(i for i in books if i.id == action.instance_id).state is InstanceState.BOOTED


@given(provisions(("start", "race")), machines, instances((InstanceState.CREATED, InstanceState.BOOTED)))
def test_nothing_more_is_rented_once_the_budget_is_reached(
    op: Operation, machine: Machine, books: list[Instance]
) -> None:
    if machine.operation_id != op.id or machine.epoch != op.epoch or machine.spec.budget_usd is None:
        return
    if total_at_most_usd(books, NOW) >= machine.spec.budget_usd:
        assert isinstance(provisioning.decide(op, machine, books, NOW), GiveUp)


@given(provisions(("release", "give_up")), machines, instances((InstanceState.RELEASING, InstanceState.GONE)))
def test_an_operation_ends_only_when_each_instance_is_gone(
    op: Operation, machine: Machine, books: list[Instance]
) -> None:
    """Invariant 3."""
    action = provisioning.decide(op, machine, books, NOW)
    others = [i for i in books if i.id != machine.instance_id] if op.phase == "release" else books
    if isinstance(action, Finish):
        assert all(i.state is InstanceState.GONE for i in others)
    if isinstance(action, Release):
        assert action.instance_id != machine.instance_id or op.phase == "give_up"


@given(machines, st.booleans(), instances(), st.sampled_from(["start", "checked"]))
@settings(max_examples=300)
def test_a_workspace_is_looked_at_before_it_is_destroyed_unless_told_not_to(
    machine: Machine, discard: bool, books: list[Instance], phase: str
) -> None:
    """Invariant 4."""
    op = Operation(
        id="op-1", kind=OperationKind.DESTROY, machine="ada", epoch=1, created_at=NOW, updated_at=NOW,
        discard=discard, phase=phase, not_before=0.0,
    )  # fmt: skip
    action = destruction.decide(op, machine, books, NOW)
    if machine.operation_id != op.id:
        assert action == Abandon()
    elif isinstance(action, BeginDestroy):
        never_ran = machine.state is not MachineState.RUNNING or machine.instance_id is None
        assert discard or phase == "checked" or never_ran
    else:
        assert isinstance(action, InspectWorkspace)


@given(machines, instances())
def test_a_refused_destroy_ends_without_touching_anything(machine: Machine, books: list[Instance]) -> None:
    op = Operation(
        id="op-1", kind=OperationKind.DESTROY, machine="ada", epoch=1, created_at=NOW, updated_at=NOW,
        phase="checked", problem=Problem(code="workspace_not_empty", detail="…"),
    )  # fmt: skip
    assert isinstance(destruction.decide(op, machine, books, NOW), Finish | Abandon)


@given(instances((InstanceState.RELEASING, InstanceState.GONE)))
def test_what_has_no_known_id_is_looked_for_by_its_label_before_it_is_given_up(books: list[Instance]) -> None:
    op = Operation(id="op-1", kind=OperationKind.REAP, machine="ada", epoch=1, created_at=NOW, updated_at=NOW)
    action = destruction.decide_reap(op, None, books, NOW)
    if isinstance(action, Release):
        assert next(i for i in books if i.id == action.instance_id).provider_instance_id is not None
    if isinstance(action, Survey):
        assert any(i.provider_instance_id is None for i in books if i.open)
