"""Subscriptions: tried out, replayed, given new secrets, counted, disabled."""

from __future__ import annotations

import json

import pytest

from dumont.domain import subscriptions as domain
from dumont.domain.errors import Conflict, InvalidInput, Unknown
from dumont.domain.subscriptions import DeliveryState, SubscriptionIndex
from dumont.operations import deliveries, subscribers, subscriptions
from tests.unit.webhook_support import URL, Office, secret_of, signed_by

DELIVERED, PENDING, DEAD = DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.DEAD


@pytest.fixture
def office() -> Office:
    return Office()


# --- Test and replay ----------------------------------------------------------------------------------------------


def test_a_test_goes_to_one_alone_whatever_it_is_for(office: Office) -> None:
    made, _other = office.subscribe("job.ended"), office.subscribe()
    delivery = deliveries.test(office.ports, made.id)
    assert office.work() == [DELIVERED]
    (sent,) = office.courier.sent
    assert json.loads(sent.body)["type"] == "dumont.test"
    assert deliveries.test(office.ports, made.id).id != delivery.id


def test_a_delivery_is_replayed_under_its_own_id(office: Office) -> None:
    made = office.subscribe()
    (delivery,) = office.happens()
    office.work()
    office.clock.moment += 86_400.0
    again = deliveries.replay(office.ports, made.id, delivery.id)
    assert again.expires_at == office.clock.moment + domain.KEPT_SECONDS, "it stays a month from now on"
    assert office.work() == [DELIVERED]
    assert [sent.headers["webhook-id"] for sent in office.courier.sent] == [delivery.id] * 2
    with pytest.raises(Unknown):
        deliveries.replay(office.ports, made.id, "msg_none")
    other = office.subscribe()
    for look in (deliveries.find, deliveries.replay):
        with pytest.raises(Unknown):
            look(office.ports, other.id, delivery.id)
    assert deliveries.find(office.ports, made.id, delivery.id).id == delivery.id


def test_what_is_dead_since_a_time_is_replayed_and_no_more(office: Office) -> None:
    made = office.subscribe()
    office.courier.answers = [500]
    office.happens(identifier="early")
    office.work()
    office.sweep_until_settled()
    office.clock.moment += 100
    since = office.clock.moment
    (late,) = office.happens(identifier="late")
    office.work()
    office.sweep_until_settled()
    assert len(deliveries.listed(office.ports, made.id, state=DEAD, limit=10)) == 2
    office.courier.answers = [200]
    again = deliveries.replay_dead(office.ports, made.id, since=since)
    assert [d.id for d in again] == [late.id]
    assert office.work() == [DELIVERED]
    assert len(office.delivery(late.id).attempts) == 9, "its earlier tries stay in the log"
    assert deliveries.replay_dead(office.ports, made.id, since=since) == []
    assert len(deliveries.replay_dead(office.ports, made.id, since=0.0)) == 1


def test_of_what_is_replayed_again_and_again_the_last_tries_are_kept(office: Office) -> None:
    made = office.subscribe()
    (delivery,) = office.happens()
    for _ in range(domain.ATTEMPTS_KEPT + 2):
        assert office.work() == [DELIVERED]
        office.clock.moment += 1.0
        deliveries.replay(office.ports, made.id, delivery.id)
    kept = office.delivery(delivery.id).attempts
    assert len(kept) == domain.ATTEMPTS_KEPT
    assert kept[-1].at == office.clock.moment - 1.0


# --- Secrets ------------------------------------------------------------------------------------------------------


def test_no_secret_is_stored(office: Office) -> None:
    made = office.subscribe()
    office.happens()
    office.work()
    rotated, secret = subscriptions.rotate(office.ports, made.id)
    stored = str([*office.log(), rotated, office.store.get(SubscriptionIndex, domain.INDEX)])
    for generation in (1, 2):
        assert secret_of(made.id, generation).hex() not in stored
        assert domain.shown_secret(secret_of(made.id, generation)) not in stored
    assert secret == domain.shown_secret(secret_of(made.id, 2))
    assert secret.startswith("whsec_")


def test_for_a_day_two_secrets_sign_and_then_one(office: Office) -> None:
    made = office.subscribe()
    subscriptions.rotate(office.ports, made.id)
    office.happens(identifier="1")
    office.work()
    assert [signed_by(office.courier.sent[-1], secret_of(made.id, n)) for n in (1, 2)] == [True, True]
    office.clock.moment += domain.OLD_SECRET_SECONDS + 1
    office.happens(identifier="2")
    office.work()
    assert [signed_by(office.courier.sent[-1], secret_of(made.id, n)) for n in (1, 2)] == [False, True]


def test_of_many_new_secrets_within_a_day_the_last_three_sign(office: Office) -> None:
    made = office.subscribe()
    for _ in range(3):
        subscriptions.rotate(office.ports, made.id)
    office.happens()
    office.work()
    signing = [n for n in (1, 2, 3, 4) if signed_by(office.courier.sent[-1], secret_of(made.id, n))]
    assert signing == [2, 3, 4]


def test_there_are_only_so_many_and_a_deleted_one_makes_room(office: Office) -> None:
    made = [office.subscribe() for _ in range(domain.SUBSCRIPTIONS_MOST)]
    with pytest.raises(Conflict):
        office.subscribe()
    subscriptions.delete(office.ports, made[3].id)
    office.subscribe("job.ended")
    index = office.store.get(SubscriptionIndex, domain.INDEX)
    assert index is not None
    assert index.count == domain.SUBSCRIPTIONS_MOST == len(index.wanted) == len(subscriptions.every(office.ports))


def test_events_that_there_are_not_are_refused(office: Office) -> None:
    for types in ((), ("failover",), ("failover.done", "no.such"), ("dumont.test",)):
        with pytest.raises(InvalidInput) as refused:
            subscriptions.create(office.ports, office.courier, url=URL, types=types, created_by="ada")
        assert refused.value.field == "events"
    assert office.subscribe("job.ended", "*").types == ("*",)


def test_a_disabled_one_is_not_told_and_what_waits_for_it_dies(office: Office) -> None:
    made = office.subscribe()
    (waiting,) = office.happens(identifier="1")
    subscriptions.change(office.ports, office.courier, made.id, enabled=False)
    assert office.happens(identifier="2") == []
    assert office.work() == [None]
    assert office.delivery(waiting.id).why_dead == "disabled"
    subscriptions.change(office.ports, office.courier, made.id, enabled=True, types=("job.ended",))
    assert office.happens("failover.done", identifier="3") == []
    assert len(office.happens("job.ended", identifier="4")) == 1
    assert subscribers.look(office.ports) == 0
    assert PENDING in {found.state for found in office.log()}
