"""Deliveries where something of ours fails: the bus, the store, a worker; or is changed in mid-try."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping

import pytest

from dumont.adapters.memory_store import MemoryStore
from dumont.domain import subscriptions as domain
from dumont.domain.errors import BusUnavailable, InvalidInput, StoreUnavailable
from dumont.domain.rest import RestPhase, SweepRest
from dumont.domain.subscriptions import DeliveryState
from dumont.operations import deliveries, subscribers, subscriptions
from dumont.operations.rest import SWEEPS
from dumont.optional_ports import ScheduleState
from dumont.ports import Ports
from tests.unit.webhook_support import URL, Office

DELIVERED, PENDING, DEAD = DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.DEAD


@pytest.fixture
def office() -> Office:
    return Office()


# --- Handed out ---------------------------------------------------------------------------------------------------


def test_what_is_due_is_handed_out_again_each_minute_until_somebody_claims_it(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()
    office.clock.moment += domain.HINT_SECONDS
    for _ in range(3):
        office.bus.sent.clear()
        assert subscribers.look(office.ports) == 1
        assert [message for _, message in office.bus.sent] == [{"delivery_id": delivery.id}]
        office.clock.moment += 59  # looks are a minute apart, less what came before them in their sweep


def test_a_backlog_is_handed_out_in_parts_so_that_the_sweep_goes_on_listening(office: Office) -> None:
    office.subscribe()
    for number in range(subscribers.HANDED_OUT_MOST + 1):
        office.happens(identifier=str(number))
        office.clock.moment += 1
    office.bus.sent.clear()
    office.clock.moment += domain.HINT_SECONDS
    assert subscribers.look(office.ports) == subscribers.HANDED_OUT_MOST
    assert len(office.work()) == subscribers.HANDED_OUT_MOST
    assert subscribers.look(office.ports) == 1


def test_a_bus_that_is_away_is_asked_once_and_not_for_each_that_is_to_be_told(office: Office) -> None:
    class Away:
        asked = 0

        def publish(self, topic: str, message: Mapping[str, str]) -> None:
            self.asked += 1
            raise BusUnavailable(f"{topic}: no answer within 20 s to {dict(message)}")

    for _ in range(5):
        office.subscribe()
    made = office.happens()
    office.clock.moment += domain.HINT_SECONDS
    away = Away()
    ports = dataclasses.replace(office.ports, bus=away)
    assert (subscribers.publish(ports, made), subscribers.look(ports), away.asked) == (0, 0, 2)


# --- Workers that die ---------------------------------------------------------------------------------------------


class Dies(BaseException):
    """What kills a process."""


def test_tries_that_kill_their_workers_are_as_far_apart_as_those_that_fail(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """Else whatever of ours fails for some minutes would use up a day's tries, and nobody would hear of it."""

    def dies() -> None:
        begun.append(office.clock.moment)
        raise Dies

    office.subscribe()
    (delivery,) = office.happens()
    office.bus.sent.clear()
    office.courier.before = dies
    begun: list[float] = []
    with caplog.at_level(logging.ERROR):
        while office.delivery(delivery.id).state is PENDING:
            try:
                office.sweep()
            except Dies:
                office.bus.sent.clear()
            office.clock.moment += 60
    waits = [after - before for before, after in itertools.pairwise(begun)]
    for wait, planned in zip(waits, domain.RETRY_SECONDS, strict=True):
        least = max(planned, domain.LEASE_SECONDS)
        assert least <= wait <= least * (1 + domain.JITTER) + 120
    assert office.delivery(delivery.id).why_dead == "exhausted"
    assert [record.message for record in caplog.records] == ["a webhook was not delivered"]


# --- Changed while it is told -------------------------------------------------------------------------------------

ELSEWHERE = "https://new.example.com/dumont"


@pytest.mark.parametrize("answer", [410, 500])
def test_what_the_old_address_answers_says_nothing_of_the_new_one(office: Office, answer: int) -> None:
    made = office.subscribe()

    def move() -> None:
        office.courier.before = lambda: None
        subscriptions.change(office.ports, office.courier, made.id, url=ELSEWHERE)

    office.courier.before = move
    office.courier.answers = [answer, 200]
    office.happens()
    assert office.work() == [DELIVERED]
    assert [sent.target.url for sent in office.courier.sent] == [URL, ELSEWHERE]
    after = office.subscription(made.id)
    assert (after.enabled, after.failing_since) == (True, None)


def test_a_new_address_has_its_own_days_before_it_is_given_up(office: Office) -> None:
    made = office.subscribe()
    office.courier.answers = [500]
    office.happens(identifier="a")
    office.work()
    office.sweep_until_settled()
    office.clock.moment += 2 * 86_400
    subscriptions.change(office.ports, office.courier, made.id, url=URL)
    assert office.subscription(made.id).failing_since is not None, "it is the same"
    subscriptions.change(office.ports, office.courier, made.id, url=ELSEWHERE)
    office.happens(identifier="b")
    office.work()
    office.sweep_until_settled()
    assert {found.why_dead for found in office.log()} == {"exhausted"}
    assert office.subscription(made.id).enabled


def test_without_a_key_to_sign_with_a_secret_is_not_replaced(office: Office) -> None:
    def none(_subscription: str, _generation: int) -> bytes:
        raise InvalidInput("no key is configured to sign webhooks with", field="DUMONT_DATA_MASTER_KEY")

    made = office.subscribe()
    with pytest.raises(InvalidInput):
        subscriptions.rotate(dataclasses.replace(office.ports, subscription_secret=none), made.id)
    assert office.subscription(made.id) == made


# --- Replayed while a store fails ---------------------------------------------------------------------------------


class Scheduler:
    """A schedule that is paused."""

    resumed = False

    def pause(self) -> None:
        self.resumed = False

    def resume(self) -> None:
        self.resumed = True

    def state(self) -> ScheduleState:
        return ScheduleState.RUNNING if self.resumed else ScheduleState.PAUSED


def resting(office: Office) -> tuple[Ports, Scheduler]:
    """A world whose sweeps rest."""
    scheduler = Scheduler()
    office.put(SweepRest(id=SWEEPS, phase=RestPhase.PAUSED))
    return dataclasses.replace(office.ports, make_schedule=lambda: scheduler), scheduler


def test_what_a_failing_store_has_replayed_already_is_on_its_way() -> None:
    commits_left = [10**6]

    def pause(call: str) -> None:
        commits_left[0] -= call == "commit"
        if commits_left[0] < 0:
            commits_left[0] = 10**6
            raise StoreUnavailable("no answer")

    office = Office(store=MemoryStore(pause=pause, serialise=True))
    made = office.subscribe()
    for number in range(3):
        (delivery,) = office.happens(identifier=str(number))
        office.put(domain.dead(delivery, "exhausted"))
    office.bus.sent.clear()
    ports, scheduler = resting(office)
    commits_left[0] = 2
    with pytest.raises(StoreUnavailable):
        deliveries.replay_dead(ports, made.id, since=0.0)
    assert scheduler.resumed, "a hint that is lost is made good by sweeps alone"
    assert office.work() == [DELIVERED, DELIVERED]
    assert len(deliveries.replay_dead(ports, made.id, since=0.0)) == 1


def test_a_replay_that_comes_again_since_its_answer_was_lost_resumes_the_sweeps(office: Office) -> None:
    made = office.subscribe()
    (delivery,) = office.happens()
    office.put(domain.dead(delivery, "exhausted"))
    deliveries.replay_dead(office.ports, made.id, since=0.0)  # and dies before it resumes them
    ports, scheduler = resting(office)
    assert deliveries.replay_dead(ports, made.id, since=0.0) == []
    assert scheduler.resumed
