"""Offers, GPUs, names and states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import gpus, names, reaping
from dumont.domain.errors import IllegalTransition, InvalidInput
from dumont.domain.offers import Offer, OfferQuery, finish_cost_usd, in_region, matches, pick_racers, rank
from dumont.domain.records import Instance, InstanceState, MachineState
from dumont.domain.states import TRANSITIONS, check_transition, not_running
from dumont.domain.statuses import InstanceStatus, ProviderInstance


def offer(number: int = 1, **changes: object) -> Offer:
    fields: dict[str, object] = {
        "provider": "vast", "id": str(number), "gpu": "RTX 4090", "gpu_usd_per_hour": 0.2, "vram_gib": 24.0,
        "reliability": 0.99, "verified": True, "region": "British Columbia, CA", "download_mbps": 800.0,
        "disk_gb": 100.0, "machine_id": f"m{number}", "host_id": f"h{number}", "storage_usd_per_gb_hour": 0.0002,
    }  # fmt: skip
    return Offer(**(fields | changes))  # type: ignore[arg-type]


QUERY = OfferQuery(gpu="RTX 4090")


def test_an_offer_that_does_not_say_passes_no_filter_about_it() -> None:
    """Unknown is never taken for good."""
    assert matches(offer(), QUERY)
    assert not matches(offer(verified=None), QUERY)
    assert not matches(offer(reliability=None), OfferQuery(gpu="RTX 4090", min_reliability=0.1))
    assert not matches(offer(disk_gb=None), QUERY)
    assert not matches(offer(region=None), OfferQuery(gpu="RTX 4090", region="CA"))


def test_the_price_that_is_filtered_counts_the_disk() -> None:
    assert matches(offer(), OfferQuery(gpu="RTX 4090", max_price_usd_per_hour=0.2041))
    assert not matches(offer(), OfferQuery(gpu="RTX 4090", max_price_usd_per_hour=0.2039))


def test_a_region_is_a_whole_part_of_the_place() -> None:
    assert in_region("British Columbia, CA", "ca")
    assert in_region("British Columbia, CA", "british columbia")
    assert not in_region("California, US", "CA")


@given(st.floats(0.5, 0.9999), st.floats(0.5, 0.9999))
def test_less_reliable_costs_more_to_finish(one: float, other: float) -> None:
    low, high = sorted((one, other))
    query = OfferQuery(gpu="RTX 4090", job_hours=8.0)
    assert finish_cost_usd(offer(reliability=low), query) >= finish_cost_usd(offer(reliability=high), query) - 1e-9


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 1), st.none() | st.floats(1, 200)), max_size=30))
def test_ranking_is_total_finite_and_independent_of_the_order(rows: list[tuple[float, float, float | None]]) -> None:
    offers = [
        offer(n, gpu_usd_per_hour=price, reliability=reliability, dlperf=speed)
        for n, (price, reliability, speed) in enumerate(rows)
    ]
    ranked = rank(offers, QUERY)
    assert ranked == rank(offers[::-1], QUERY)
    assert all(r.finish_usd < 1e30 for r in ranked)


def test_racers_are_on_different_hosts_before_two_share_one() -> None:
    offers = [offer(1, host_id="same"), offer(2, host_id="same"), offer(3, gpu_usd_per_hour=0.3)]
    assert [o.id for o in pick_racers(rank(offers, QUERY), 3)] == ["1", "3", "2"]
    avoided = pick_racers(rank(offers, QUERY), 3, avoid_machines=frozenset({"m1"}))
    assert [o.id for o in avoided] == ["2", "3"]


def test_none_races_that_costs_far_more_than_the_best_until_the_cheap_ones_are_tried() -> None:
    offers = [offer(1, gpu_usd_per_hour=0.5), offer(2, gpu_usd_per_hour=0.8), offer(3, gpu_usd_per_hour=4.0)]
    ranked = rank(offers, QUERY)
    assert [o.id for o in pick_racers(ranked, 3)] == ["1", "2"]
    assert [o.id for o in pick_racers(ranked, 3, avoid_machines=frozenset({"m1", "m2"}))] == ["3"]


def test_a_listing_that_says_free_does_not_keep_the_others_from_racing() -> None:
    offers = [offer(1, gpu_usd_per_hour=0.0), offer(2, gpu_usd_per_hour=0.5), offer(3, gpu_usd_per_hour=4.0)]
    assert [o.id for o in pick_racers(rank(offers, QUERY), 3)] == ["1", "2"]


@pytest.mark.parametrize("spelled", ["rtx_4090", "NVIDIA GeForce RTX 4090", "RTX4090", "rtx 4090"])
def test_a_gpu_is_known_however_it_is_spelled(spelled: str) -> None:
    assert gpus.canonical(spelled) == "RTX 4090"


def test_an_unknown_gpu_gets_a_suggestion() -> None:
    assert not gpus.is_known("RTX 4900")
    assert "RTX 4090" in gpus.suggestions("RTX 4900")


@pytest.mark.parametrize(
    ("driver", "offered", "same"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090", True),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4", True),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", True),
        ("NVIDIA H100 PCIe", "H100 SXM", False),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000Ada", True),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070S Ti", True),
        ("Tesla V100-SXM2-16GB", "Tesla V100", True),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090", False),
        ("NVIDIA GeForce RTX 3090", "RTX 4090", False),
        ("", "RTX 4090", False),
    ],
)
def test_the_drivers_word_is_held_against_the_offer(driver: str, offered: str, same: bool) -> None:
    assert gpus.same_model(driver, offered) is same


@pytest.mark.parametrize("name", ["", "A", "1a", "a" * 41, "a_b", "a.b", "a\n", None, 5, "-a", "ä"])
def test_a_bad_name_is_refused_by_field(name: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        names.check_machine_name(name)
    assert refused.value.field == "name"


@given(st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True), st.integers(0, 10**6))
def test_a_label_says_whose_it_is_and_fits_the_market(name: str, epoch: int) -> None:
    label = names.instance_label("main", name, epoch, "0123456789abcdef0123")
    assert names.machine_of_label("main", label) == (name, epoch)
    assert names.machine_of_label("mai", label) is None
    assert len(label) <= 256


def test_every_state_has_its_row_and_nothing_leaves_by_another_way() -> None:
    assert set(TRANSITIONS) == set(MachineState)
    check_transition(MachineState.RUNNING, MachineState.DESTROYING)
    check_transition(MachineState.RUNNING, MachineState.RUNNING)
    for before, after in [
        (MachineState.DESTROYED, MachineState.RUNNING),
        (MachineState.DESTROYING, MachineState.RUNNING),
        (MachineState.HIBERNATED, MachineState.RUNNING),
        (MachineState.REQUESTED, MachineState.RUNNING),
    ]:
        with pytest.raises(IllegalTransition):
            check_transition(before, after)


@pytest.mark.parametrize("state", MachineState)
def test_what_needs_a_running_machine_says_how_it_comes_to_run(state: MachineState) -> None:
    refused = not_running("ada", state)
    assert "ada" in refused.hint
    assert ("dumont wake ada" in refused.hint) == (state is MachineState.HIBERNATED)


# --- Reaping ------------------------------------------------------------------------------------------------------


def listed(label: str | None, number: str = "7") -> ProviderInstance:
    return ProviderInstance(id=number, status=InstanceStatus.RUNNING, label=label)


def booked(label: str, *, number: str | None = "7", is_open: bool = True) -> Instance:
    return Instance(
        id=label, machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", offer=offer(),
        disk_gb=20, state=InstanceState.CREATED, open=is_open, intended_at=0.0, provider_instance_id=number,
    )  # fmt: skip


OURS = "dumont.main.ada.1.x"


def test_what_does_not_bear_our_label_is_never_a_stray() -> None:
    """Invariant 2; prior art's mistake 5."""
    for label in (None, "", "trainer", "dumont", "dumont.other.ada.1.x", "dumont.main.ada", "dumont.main.ada.one.x"):
        assert reaping.strays("main", [listed(label)], {}) == []


def test_a_stray_is_ours_and_not_open_in_the_books() -> None:
    assert reaping.strays("main", [listed(OURS)], {}) == [listed(OURS)]
    assert reaping.strays("main", [listed(OURS)], {OURS: booked(OURS)}) == []
    assert reaping.strays("main", [listed(OURS)], {OURS: booked(OURS, number=None)}) == []
    assert reaping.strays("main", [listed(OURS)], {OURS: booked(OURS, is_open=False)}) == [listed(OURS)]


def test_a_second_instance_under_one_label_is_a_stray() -> None:
    twin = listed(OURS, "8")
    assert reaping.strays("main", [listed(OURS), twin], {OURS: booked(OURS)}) == [twin]
