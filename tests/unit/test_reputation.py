"""Host reputation: what is counted, how it fades, and what it lets us believe."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import reputation, trust
from dumont.domain.beliefs import Belief
from dumont.domain.host_events import DEATHS, HostEvent, HostEventKind, events_between, lie_in, restored
from dumont.domain.offers import Offer
from dumont.domain.records import Check, GpuReading, Instance, InstanceState, Problem, Proof
from dumont.domain.reputation import HALF_LIFE_SECONDS, HostRecord, Spread, faded, observed
from dumont.domain.trust import PRIOR, Known, believed, pooled, score

NOW = 1_800_000_000.0
DAY = 86400.0
OFFER = Offer(
    provider="vast", id="7", gpu="RTX 4090", gpu_usd_per_hour=0.3, vram_gib=24.0, reliability=0.99, verified=True,
    download_mbps=800.0, disk_gb=100.0, machine_id="m7", host_id="h1",
)  # fmt: skip

kinds = st.sampled_from(HostEventKind)
events = st.builds(
    HostEvent, kind=kinds, key=st.uuids().map(str), seconds=st.floats(0, 1e6), mbps=st.floats(0, 1e5),
    reason=st.text(max_size=80),
)  # fmt: skip
histories = st.lists(st.tuples(events, st.floats(0, 200 * DAY)), max_size=40)


def fresh(offer: Offer = OFFER) -> HostRecord:
    record = reputation.unknown(offer, NOW)
    assert record is not None
    return record


def told(*told_events: HostEvent | HostEventKind, at: float = NOW, record: HostRecord | None = None) -> HostRecord:
    after = record if record is not None else fresh()
    for number, event in enumerate(told_events):
        if isinstance(event, HostEventKind):
            event = HostEvent(kind=event, key=f"{event}-{number}-{at}", seconds=60.0, mbps=100.0)
        after = observed(after, event, at)
    return after


def belief(record: HostRecord | None, offer: Offer = OFFER, now: float = NOW) -> Belief:
    return believed(offer, faded(record, now) if record is not None else None, (), PRIOR)


# --- Counting -----------------------------------------------------------------------------------------------------


@given(histories)
def test_a_record_stays_small_whatever_is_told(history: list[tuple[HostEvent, float]]) -> None:
    record = fresh()
    for event, later in history:
        record = observed(record, event, NOW + later)
    assert len(record.recent) <= reputation.RECENT_MOST
    assert len(record.reasons) <= reputation.REASONS_MOST
    assert all(len(reason) <= 60 for reason in record.reasons)


@given(st.lists(events, max_size=15), st.integers(0, 14))
def test_what_is_told_twice_counts_once(some: list[HostEvent], again: int) -> None:
    once = told(*some)
    assert told(*some[again : again + 1], record=once) == once


@given(histories.filter(lambda history: len(history) > 1), st.randoms(use_true_random=False))
def test_the_order_in_which_events_arrive_does_not_matter(
    history: list[tuple[HostEvent, float]], chance: object
) -> None:
    shuffled = list(history)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    end = NOW + 300 * DAY
    one, other = fresh(), fresh()
    for event, later in history:
        one = observed(one, event, NOW + later)
    for event, later in shuffled:
        other = observed(other, event, NOW + later)
    one, other = faded(one, end), faded(other, end)
    for field in (
        "boots_ok",
        "boots_failed",
        "proofs_ok",
        "proofs_failed",
        "lies",
        "deaths",
        "served_hours",
        "offences",
    ):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-6, abs=1e-9)
    assert one.boot_seconds.mean == pytest.approx(other.boot_seconds.mean, rel=1e-6, abs=1e-6)
    assert one.restore_log_mbps.weight == pytest.approx(other.restore_log_mbps.weight, rel=1e-6, abs=1e-9)


def test_evidence_halves_in_thirty_days() -> None:
    record = told(HostEventKind.BOOTED, HostEventKind.BOOTED)
    assert faded(record, NOW + HALF_LIFE_SECONDS).boots_ok == pytest.approx(1.0)
    assert faded(record, NOW - DAY) == record, "time does not run backwards"


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_a_spread_is_the_mean_and_deviation_of_what_it_saw(values: list[float]) -> None:
    spread = Spread()
    for value in values:
        spread = spread.seeing(value)
    mean = sum(values) / len(values)
    assert spread.mean == pytest.approx(mean, abs=1e-6)
    assert spread.m2 == pytest.approx(sum((value - mean) ** 2 for value in values), rel=1e-6, abs=1e-4)


# --- Blocks -------------------------------------------------------------------------------------------------------


def blocked_hours(record: HostRecord, at: float) -> float:
    assert record.blocked_until is not None
    return (record.blocked_until - at) / 3600


def test_a_block_doubles_with_each_offence_and_ends_by_itself() -> None:
    record, at = fresh(), NOW
    lengths = []
    for _ in range(12):
        record = told(HostEventKind.BOOT_FAILED, record=record, at=at)
        lengths.append(blocked_hours(record, at))
        at += 60
    assert lengths[:4] == pytest.approx([1, 2, 4, 8], rel=0.01)
    assert lengths[-1] == reputation.BLOCK_HOURS_MOST
    assert not belief(record).is_blocked(at + 14 * DAY)
    assert belief(record).is_blocked(at)


def test_an_offence_is_forgiven_as_it_fades() -> None:
    record = told(HostEventKind.BOOT_FAILED)
    again = NOW + 6 * HALF_LIFE_SECONDS
    assert blocked_hours(told(HostEventKind.BOOT_FAILED, record=record, at=again), again) == pytest.approx(
        1.0, rel=0.02
    )


def test_a_lie_weighs_more_than_a_failure() -> None:
    lied, failed = told(HostEventKind.LIED), told(HostEventKind.PROOF_FAILED)
    assert blocked_hours(lied, NOW) > blocked_hours(failed, NOW)


def test_a_later_small_offence_does_not_shorten_a_block() -> None:
    record = told(HostEventKind.LIED)
    assert (told(HostEventKind.BOOT_FAILED, record=record).blocked_until or 0) >= (record.blocked_until or 0)


# --- Beliefs ------------------------------------------------------------------------------------------------------


@given(histories)
def test_a_belief_is_a_probability_and_positive_rates(history: list[tuple[HostEvent, float]]) -> None:
    record = fresh()
    for event, later in history:
        record = observed(record, event, NOW + later)
    held = belief(record, now=NOW + 200 * DAY)
    assert 0 < held.works < 1
    assert 0 <= held.works_deviation < 0.5
    assert held.deaths > 0
    assert held.hours > 0
    assert held.boot_seconds > 0
    assert math.isfinite(held.restore_mbps)
    assert held.restore_mbps > 0


@given(st.lists(kinds, max_size=12))
def test_success_raises_the_chance_and_failure_lowers_it(before: list[HostEventKind]) -> None:
    record = told(*before)
    works = belief(record).works
    for good in (HostEventKind.BOOTED, HostEventKind.PROVED):
        assert belief(told(good, record=record, at=NOW + 1)).works > works - 1e-6
    for bad in (HostEventKind.BOOT_FAILED, HostEventKind.PROOF_FAILED, HostEventKind.LIED):
        assert belief(told(bad, record=record, at=NOW + 1)).works < works + 1e-6


def test_one_success_of_one_is_not_certainty_and_many_say_more() -> None:
    unknown, once = belief(None), belief(told(HostEventKind.BOOTED, HostEventKind.PROVED))
    often = belief(told(*[HostEventKind.BOOTED, HostEventKind.PROVED] * 50))
    assert unknown.works < once.works < often.works < 1
    assert once.works < 0.92
    assert often.works > 0.97
    assert often.works_deviation < once.works_deviation / 2


def test_old_evidence_leaves_what_all_hosts_are_like() -> None:
    record = told(*[HostEventKind.BOOT_FAILED] * 5)
    assert belief(record).works < 0.6
    assert belief(record, now=NOW + 12 * HALF_LIFE_SECONDS).works == pytest.approx(belief(None).works, abs=0.001)


def test_hours_served_without_a_death_make_a_host_long_lived() -> None:
    hours = HostEvent(kind=HostEventKind.SERVED, key="s", seconds=200 * 3600.0)
    assert belief(told(hours)).deaths_per_hour < belief(None).deaths_per_hour / 4
    assert belief(told(hours, HostEventKind.DIED)).deaths_per_hour > belief(told(hours)).deaths_per_hour


def test_the_markets_word_is_weak_evidence() -> None:
    praised, shunned = replace(OFFER, reliability=0.999), replace(OFFER, reliability=0.6)
    assert belief(None, praised).works > belief(None, shunned).works
    assert belief(None, praised).deaths_per_hour < belief(None, shunned).deaths_per_hour
    proven = told(*[HostEventKind.BOOTED, HostEventKind.PROVED] * 10)
    assert belief(proven, shunned).works > belief(None, praised).works


def test_a_measured_speed_outweighs_what_is_offered() -> None:
    slow = [HostEvent(kind=HostEventKind.RESTORED, key=str(n), mbps=50.0) for n in range(5)]
    assert belief(None).restore_mbps == pytest.approx(400.0)
    assert 50 < belief(told(*slow)).restore_mbps < 80


def test_a_host_is_known_by_its_other_machines_a_little() -> None:
    failing = told(*[HostEventKind.BOOT_FAILED] * 8)
    other, stranger = replace(OFFER, machine_id="m8"), replace(OFFER, machine_id="m9", host_id="h2")
    known = Known({failing.machine_key: failing}, NOW)
    assert known.belief(OFFER).works < known.belief(other).works < known.belief(stranger).works


def test_what_all_hosts_show_moves_what_is_held_of_a_new_one_and_no_single_one_does_much() -> None:
    bad = [told(*[HostEventKind.BOOT_FAILED] * 30, record=fresh(replace(OFFER, machine_id=f"m{n}"))) for n in range(5)]
    shared = pooled(bad, NOW)
    assert shared.boots_ok + shared.boots_failed == pytest.approx(PRIOR.boots_ok + PRIOR.boots_failed)
    assert shared.boots_failed / 5 > 0.8
    assert pooled(bad[:1], NOW).boots_failed / 5 < 0.75
    assert pooled([], NOW) == PRIOR


@given(st.floats(0.01, 50), st.floats(0.1, 500), st.floats(0.01, 500), st.floats(0.01, 500))
def test_expected_hours_are_more_than_the_work_and_grow_with_it_and_with_deaths(
    deaths: float, hours: float, work: float, more: float
) -> None:
    held = replace(belief(None), deaths=deaths, hours=hours)
    busy, failures = held.busy(work)
    assert math.isfinite(busy)
    assert busy >= work * (1 - 1e-9) or failures > 1e20
    assert failures >= 0
    assert held.busy(work + more)[0] >= busy * (1 - 1e-9)
    assert replace(held, deaths=deaths + more).busy(work)[0] >= busy * (1 - 1e-9)
    if failures < 1e20:  # beyond that it never ends, and is held finite
        assert replace(held, hours=hours + more).busy(work)[0] <= busy * (1 + 1e-9)


def test_with_much_evidence_the_expected_hours_are_dalys() -> None:
    hazard, work = 0.02, 30.0
    held = replace(belief(None), deaths=hazard * 1e7, hours=1e7)
    assert held.busy(work)[0] == pytest.approx(math.expm1(hazard * work) / hazard, rel=1e-3)
    assert held.busy(work)[1] == pytest.approx(math.expm1(hazard * work), rel=1e-3)


def test_a_score_says_what_a_host_costs_more() -> None:
    good, bad = told(*[HostEventKind.BOOTED] * 9), told(*[HostEventKind.BOOT_FAILED] * 9)
    known, unknown, worse = score(OFFER, good, NOW), score(OFFER, None, NOW), score(OFFER, bad, NOW)
    assert known.extra_seconds < unknown.extra_seconds < worse.extra_seconds
    assert known.extra_usd < unknown.extra_usd < worse.extra_usd
    assert unknown.seen == 0
    assert worse.blocked_until is not None
    assert score(OFFER, bad, (worse.blocked_until or 0) + 1).blocked_until is None


def test_an_offer_whose_machine_is_not_named_has_no_record_and_an_odd_name_makes_a_storable_one() -> None:
    assert reputation.unknown(replace(OFFER, machine_id=None), NOW) is None
    assert reputation.key_of(replace(OFFER, machine_id="a/b")) == "vast.a_b"
    assert trust.score(replace(OFFER, machine_id=None), None, NOW).works > 0.5


# --- What instances tell ------------------------------------------------------------------------------------------

CREATED = Instance(
    id="dumont.main.ada.1.x", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast",
    offer=OFFER, disk_gb=20.0, state=InstanceState.CREATED, intended_at=NOW, created_at=NOW + 1,
)  # fmt: skip
BOOTED = replace(CREATED, state=InstanceState.BOOTED, booted_at=NOW + 73)
PROVEN = replace(BOOTED, state=InstanceState.PROVEN, proven_at=NOW + 80)


def ended(instance: Instance, code: str | None, **changes: object) -> Instance:
    problem = Problem(code=code, detail="…") if code is not None else None
    return replace(instance, state=InstanceState.RELEASING, problem=problem, **changes)


def seen(before: Instance, after: Instance, now: float = NOW + 100) -> list[str]:
    return [event.kind.value for event in events_between(before, after, now)]


def test_a_boot_a_proof_and_a_life_are_told_once_each() -> None:
    (boot,) = events_between(CREATED, BOOTED, NOW + 74)
    assert (boot.kind, boot.seconds) == (HostEventKind.BOOTED, 72)
    assert seen(BOOTED, PROVEN) == ["proved"]
    (served,) = events_between(PROVEN, ended(PROVEN, None), NOW + 80 + 3600)
    assert (served.kind, served.seconds) == (HostEventKind.SERVED, 3600)
    assert seen(PROVEN, PROVEN) == []
    assert seen(ended(PROVEN, None), replace(PROVEN, state=InstanceState.GONE)) == []


@pytest.mark.parametrize("code", ["boot_timeout", "host_broken", "host_offline", "vanished"])
def test_a_boot_that_fails_is_the_hosts_doing(code: str) -> None:
    assert seen(CREATED, ended(CREATED, code)) == ["boot_failed"]


@pytest.mark.parametrize("code", ["lost_race", "given_up", "offer_gone", "never_created", None])
def test_what_is_not_the_hosts_doing_is_not_held_against_it(code: str | None) -> None:
    assert seen(CREATED, ended(CREATED, code)) == []
    assert seen(BOOTED, ended(BOOTED, code)) == []
    assert seen(PROVEN, ended(PROVEN, code)) == ["served"]


def test_an_intent_that_was_never_rented_says_nothing_of_the_host() -> None:
    intended = replace(CREATED, state=InstanceState.INTENDED, created_at=None)
    assert seen(intended, replace(intended, state=InstanceState.GONE)) == []


@pytest.mark.parametrize("code", sorted(DEATHS))
def test_a_machine_that_dies_under_us_is_a_death(code: str) -> None:
    assert seen(PROVEN, ended(PROVEN, code)) == ["served", "died"]


def proof(*gpus: GpuReading, disk_free_gb: float | None = 50.0) -> Proof:
    checks = (Check(name="nvidia-smi", ok=False, seconds=0.1),)
    return Proof(checks=checks, started_at=NOW, seconds=1.0, gpus=gpus, disk_free_gb=disk_free_gb)


GOOD = GpuReading(model="NVIDIA GeForce RTX 4090", vram_mib=24564.0)


@pytest.mark.parametrize(
    ("shown", "lie"),
    [
        (proof(), ""),
        (proof(GOOD), ""),
        (proof(GpuReading(model="NVIDIA GeForce RTX 3090", vram_mib=24564.0)), "gpu_model"),
        (proof(replace(GOOD, vram_mib=12000.0)), "vram"),
        (proof(replace(GOOD, vram_mib=None)), ""),
        (proof(GOOD, disk_free_gb=5.0), "disk"),
    ],
)
def test_less_than_was_offered_is_a_lie_and_what_cannot_be_read_is_none(shown: Proof, lie: str) -> None:
    assert lie_in(shown, OFFER, 20.0) == lie
    told_of = seen(BOOTED, ended(BOOTED, "proof_failed", proof=shown))
    assert told_of == (["proof_failed", "lied"] if lie else ["proof_failed"])


def test_fewer_gpus_than_offered_are_a_lie() -> None:
    assert lie_in(proof(GOOD), replace(OFFER, gpu_count=2), 20.0) == "gpu_count"


def test_a_restore_tells_the_speed_and_a_tenth_of_what_was_offered_is_a_lie() -> None:
    (speed,) = restored("op-1", OFFER, received_bytes=1_000_000_000, seconds=20.0)
    assert speed.mbps == pytest.approx(400.0)
    assert [e.kind for e in restored("op-1", OFFER, received_bytes=100_000_000, seconds=20.0)] == [
        HostEventKind.RESTORED,
        HostEventKind.LIED,
    ]
    fast = replace(OFFER, download_mbps=10_000.0)
    assert len(restored("op-1", fast, received_bytes=1_000_000_000, seconds=20.0)) == 1, "we may be what limits"
    assert restored("op-1", OFFER, received_bytes=1000, seconds=0.1) == ()
