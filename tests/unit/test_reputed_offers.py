"""Ranking with what we know of hosts: without it nothing changes, with it bad hosts cost what they will cost."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.domain import reputation
from dumont.domain.errors import StoreUnavailable
from dumont.domain.failover_offers import rank_for_failover
from dumont.domain.host_events import HostEvent, HostEventKind
from dumont.domain.offers import Offer, OfferQuery, finish_cost_usd, pick_racers, rank
from dumont.domain.reputation import HostRecord
from dumont.domain.trust import Known
from dumont.operations import reputations
from dumont.ports import Ports, Query
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
QUERY = OfferQuery(gpu="RTX 4090", job_hours=4.0)
GB = 10**9


def offer(number: int, **changes: object) -> Offer:
    made = Offer(
        provider="vast", id=str(number), gpu="RTX 4090", gpu_usd_per_hour=0.2, vram_gib=24.0, reliability=0.99,
        verified=True, region="Paris, FR", download_mbps=800.0, disk_gb=100.0, machine_id=f"m{number}",
        host_id=f"h{number}", storage_usd_per_gb_hour=0.0002,
    )  # fmt: skip
    return replace(made, **changes)


def record(of: Offer, *kinds: HostEventKind, mbps: float = 100.0, at: float = NOW) -> HostRecord:
    made = reputation.unknown(of, at)
    assert made is not None
    for number, kind in enumerate(kinds):
        event = HostEvent(kind=kind, key=f"{kind}{number}", seconds=60.0, mbps=mbps)
        made = reputation.observed(made, event, at)
    return made


def known(*records: HostRecord, now: float = NOW) -> Known:
    return Known({r.machine_key: r for r in records}, now)


def ids(ranked: Sequence[object]) -> list[str]:
    return [r.offer.id for r in ranked]  # type: ignore[attr-defined]


FAILS = [HostEventKind.BOOT_FAILED] * 4
WORKS = [HostEventKind.BOOTED, HostEventKind.PROVED] * 10
LATER = NOW + 3 * 86400


def test_without_a_reputation_the_ranking_is_the_markets() -> None:
    """As it was before we kept one: ((e^{4h} − 1) / h + e^{4h} · 155 s) · $0.204 at h = −ln 0.99, for the first."""
    offers = [offer(1), offer(2, gpu_usd_per_hour=0.19, reliability=0.9), offer(3, download_mbps=None)]
    ranked = rank(offers, QUERY)
    assert ids(ranked) == ["1", "3", "2"]
    assert [r.finish_usd for r in ranked] == [finish_cost_usd(r.offer, QUERY) for r in ranked]
    assert round(ranked[0].finish_usd, 6) == 0.841768
    assert not any(r.blocked for r in ranked)


def test_a_host_that_fails_costs_more_to_finish_on_and_loses_to_a_dearer_one() -> None:
    cheap, dear = offer(1, gpu_usd_per_hour=0.195), offer(2)
    assert ids(rank([cheap, dear], QUERY, reputation=known(now=LATER))) == ["1", "2"]
    bad = record(cheap, *FAILS, *[HostEventKind.DIED] * 3)
    assert ids(rank([cheap, dear], QUERY, reputation=known(bad, now=LATER))) == ["2", "1"]


def test_hosts_that_we_know_to_work_are_worth_paying_for_up_to_what_they_save() -> None:
    ours, strange = offer(1, gpu_usd_per_hour=0.203), offer(2)
    month = HostEvent(kind=HostEventKind.SERVED, key="a month", seconds=30 * 86400.0)
    good = reputation.observed(record(ours, *WORKS), month, NOW)
    assert ids(rank([ours, strange], QUERY, reputation=known(good))) == ["1", "2"]
    assert ids(rank([replace(ours, gpu_usd_per_hour=0.6), strange], QUERY, reputation=known(good))) == ["2", "1"]


def test_a_blocked_machine_comes_last_and_races_only_if_there_is_no_other() -> None:
    blocked, others = offer(1, gpu_usd_per_hour=0.01), [offer(2), offer(3)]
    lied = known(record(blocked, HostEventKind.LIED))
    ranked = rank([blocked, *others], QUERY, reputation=lied)
    assert ids(ranked) == ["2", "3", "1"]
    assert [o.id for o in pick_racers(ranked, 3)] == ["2", "3"]
    assert [o.id for o in pick_racers(rank([blocked], QUERY, reputation=lied), 3)] == ["1"]
    assert "1" in [o.id for o in pick_racers(rank([blocked, *others], QUERY, reputation=known(now=LATER)), 3)]


def test_a_block_ends() -> None:
    blocked = record(offer(1), HostEventKind.BOOT_FAILED)
    assert rank([offer(1)], QUERY, reputation=known(blocked))[0].blocked
    assert not rank([offer(1)], QUERY, reputation=known(blocked, now=NOW + 3601))[0].blocked


@given(
    st.lists(st.sampled_from(HostEventKind), max_size=12),
    st.sampled_from([HostEventKind.BOOT_FAILED, HostEventKind.PROOF_FAILED, HostEventKind.LIED, HostEventKind.DIED]),
)
def test_no_failure_ever_makes_a_host_cheaper(before: list[HostEventKind], failure: HostEventKind) -> None:
    one = record(offer(1), *before)
    other = reputation.observed(one, HostEvent(kind=failure, key="one more"), NOW)
    was = rank([offer(1)], QUERY, reputation=known(one))[0].finish_usd
    assert rank([offer(1)], QUERY, reputation=known(other))[0].finish_usd >= was * (1 - 1e-9)


# --- Failover -----------------------------------------------------------------------------------------------------


def test_a_failover_prefers_who_serves_soon_and_the_more_so_the_larger_the_snapshot() -> None:
    cheap_slow, dear_fast = offer(1, download_mbps=100.0), offer(2, gpu_usd_per_hour=0.3, download_mbps=2000.0)
    small = rank_for_failover(
        [cheap_slow, replace(cheap_slow, id="3", machine_id="m3", host_id="h3")], QUERY, 0, known()
    )
    assert [r.offer.id for r in small] == ["1", "3"]
    large = rank_for_failover([cheap_slow, dear_fast], QUERY, 20 * GB, known())
    assert [r.offer.id for r in large] == ["2", "1"]
    assert large[0].seconds_to_serve < large[1].seconds_to_serve
    assert rank([cheap_slow, dear_fast], replace(QUERY, job_hours=24.0))[0].offer.id == "1"


def test_a_failover_goes_by_the_speed_that_was_measured() -> None:
    boasts, modest = offer(1, download_mbps=5000.0), offer(2, download_mbps=600.0)
    measured = record(boasts, *[HostEventKind.RESTORED] * 6, mbps=40.0)
    assert [r.offer.id for r in rank_for_failover([boasts, modest], QUERY, 10 * GB, known())] == ["1", "2"]
    assert [r.offer.id for r in rank_for_failover([boasts, modest], QUERY, 10 * GB, known(measured))] == ["2", "1"]


def test_the_dead_machine_is_left_out_and_its_host_and_region_come_last() -> None:
    dead = offer(1, host_id="h1")
    neighbour = offer(2, host_id="h1", gpu_usd_per_hour=0.1)
    same_region = offer(3, gpu_usd_per_hour=0.15)
    elsewhere = offer(4, region="Oslo, NO")
    ranked = rank_for_failover(
        [dead, neighbour, same_region, elsewhere], QUERY, GB, known(),
        avoid_machines=frozenset({"m1"}), avoid_hosts=frozenset({"h1"}), avoid_regions=frozenset({"FR"}),
    )  # fmt: skip
    assert [r.offer.id for r in ranked] == ["4", "2", "3"]
    assert [r.avoided for r in ranked] == [False, True, True]


def test_between_equals_the_nearer_one_is_taken() -> None:
    far, near = offer(1, region="Oslo, NO"), offer(2, region="Lyon, FR")
    assert rank_for_failover([far, near], QUERY, GB, known(), near="Paris, FR")[0].offer.id == "2"
    assert rank_for_failover([far, near], QUERY, GB, known())[0].offer.id == "1"


def test_racers_of_a_failover_are_on_different_hosts() -> None:
    offers = [offer(n, host_id=f"h{n // 2}") for n in range(6)]
    racers = pick_racers(rank_for_failover(offers, QUERY, GB, known()), 3)
    assert len({o.host_id for o in racers[:3]}) == 3


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_a_larger_snapshot_never_takes_less(one: int, other: int) -> None:
    small, large = sorted((one, other))
    seconds = [rank_for_failover([offer(1)], QUERY, size, known())[0].seconds_to_serve for size in (small, large)]
    assert seconds[0] <= seconds[1]


def test_nothing_offered_ranks_to_nothing() -> None:
    assert rank_for_failover([], QUERY, GB, known()) == []


# --- In the store -------------------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts queries, and may be out of reach."""

    def __init__(self, *, reachable: bool = True) -> None:
        super().__init__(serialise=True)
        self.queries = 0
        self.reachable = reachable

    def find(self, kind, query: Query):  # type: ignore[no-untyped-def]
        self.queries += 1
        if not self.reachable:
            raise StoreUnavailable("told to")
        return super().find(kind, query)


def ports_of(store: MemoryStore) -> Ports:
    return make_ports(store, ManualClock(NOW))


def test_what_is_noted_is_known_and_counts_once_however_often_its_transaction_runs() -> None:
    store = CountingStore()
    event = HostEvent(kind=HostEventKind.BOOT_FAILED, key="i-1.boot_failed", reason="boot_timeout")
    for _ in range(3):
        store.transact(lambda tx: reputations.note(tx, offer(1), [event], NOW))
    found = reputations.known(ports_of(store), [offer(1), offer(2)])
    assert found["vast.m1"].boots_failed == 1
    assert found["vast.m1"].reasons == {"boot_timeout": 1}
    assert list(found) == ["vast.m1"]


def test_an_offer_without_a_machine_is_not_noted_and_asked_for() -> None:
    store = CountingStore()
    nameless = offer(1, machine_id=None)
    reputations.note_apart(ports_of(store), nameless, [HostEvent(kind=HostEventKind.PROVED, key="k")])
    assert store.find(HostRecord, Query()) == []
    store.queries = 0
    assert reputations.known(ports_of(store), [nameless]) == {}
    assert store.queries == 0


def test_a_search_costs_three_queries_whatever_its_size() -> None:
    store = CountingStore()
    offers = [offer(n) for n in range(500)]
    ranked = reputations.rank_by_reputation(ports_of(store), offers, QUERY)
    assert store.queries == 3
    assert len(ranked) == 500


def test_a_store_that_does_not_answer_leaves_the_plain_ranking() -> None:
    offers = [offer(2, gpu_usd_per_hour=0.3), offer(1)]
    assert reputations.rank_by_reputation(ports_of(CountingStore(reachable=False)), offers, QUERY) == rank(
        offers, QUERY
    )
