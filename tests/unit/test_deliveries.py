"""Deliveries: made at least once, signed, tried again for a day, dead in the end, replayed if somebody asks."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import subscriptions as domain
from dumont.domain.alerts import Alert
from dumont.domain.errors import Conflict, InvalidInput, NotDelivered, StoreUnavailable, Unknown
from dumont.domain.subscriptions import DeliveryState, SubscriptionIndex
from dumont.edge.slack import stories
from dumont.operations import deliveries, rest, subscriptions
from dumont.optional_ports import Posted
from dumont.ports import Query
from tests.block_kit import check
from tests.unit.webhook_support import URL, Office, secret_of, signed_by

DELIVERED, PENDING, DEAD = DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.DEAD


@pytest.fixture
def office() -> Office:
    return Office()


# --- Who is told --------------------------------------------------------------------------------------------------


def test_each_who_wants_it_is_told_once_and_nobody_else(office: Office) -> None:
    everything, failovers, jobs = office.subscribe(), office.subscribe("failover.done"), office.subscribe("job.ended")
    made = office.happens("failover.done")
    assert {delivery.subscription for delivery in made} == {everything.id, failovers.id}
    assert office.happens("failover.done") == [], "the same again is the same"
    assert office.work() == [DELIVERED, DELIVERED]
    assert len(office.courier.sent) == 2
    assert [d.subscription for d in office.happens("job.ended")] in ([everything.id, jobs.id], [jobs.id, everything.id])


def test_nobody_who_wants_it_costs_one_read_and_writes_nothing(office: Office) -> None:
    assert office.happens() == []
    office.subscribe("job.ended")
    assert office.happens("failover.done") == []
    assert office.log() == []


def test_what_does_not_commit_is_not_told(office: Office) -> None:
    office.subscribe()

    def work(tx: object) -> None:
        raise StoreUnavailable("it broke")

    with pytest.raises(StoreUnavailable):
        office.ports.store.transact(work)
    assert office.log() == []


def test_a_message_is_what_standard_webhooks_says(office: Office) -> None:
    made = office.subscribe()
    (delivery,) = office.happens("failover.done")
    office.work()
    (sent,) = office.courier.sent
    assert sent.headers["webhook-id"] == delivery.id
    assert sent.headers["webhook-timestamp"] == str(int(office.clock.moment))
    assert sent.headers["Content-Type"] == "application/json"
    assert signed_by(sent, secret_of(made.id, 1))
    assert not signed_by(sent, secret_of(made.id, 2))
    said = json.loads(sent.body)
    assert said == {"type": "failover.done", "timestamp": "2027-01-15T08:00:00.000Z", "data": {"machine": "ada"}}
    assert sent.target.url == URL
    assert sent.addresses == ("93.184.215.14",)


def test_the_signature_is_that_of_the_published_example() -> None:
    # Of https://github.com/standard-webhooks/standard-webhooks: its libraries' own tests have it.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = domain.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# --- Tried again --------------------------------------------------------------------------------------------------


def test_a_receiver_that_is_away_for_a_moment_is_tried_again_on_the_spot(office: Office) -> None:
    office.subscribe()
    office.courier.answers = [503, 200]
    (delivery,) = office.happens()
    began = office.clock.moment
    assert office.work() == [DELIVERED]
    assert 5 <= office.clock.moment - began <= 7
    assert [a.status for a in office.delivery(delivery.id).attempts] == [503, 200]
    first, second = office.courier.sent
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"], "signed anew"


@pytest.mark.parametrize("answer", [301, 302, 307, 400, 401, 404, 429, 500, 503, NotDelivered("no answer in time")])
def test_whatever_is_no_success_is_tried_for_a_day_and_then_dead(
    office: Office, answer: int | NotDelivered, caplog: pytest.LogCaptureFixture
) -> None:
    made = office.subscribe()
    office.courier.answers = [answer]
    (delivery,) = office.happens()
    began = office.clock.moment
    office.work()
    with caplog.at_level(logging.ERROR):
        office.sweep_until_settled()
    after = office.delivery(delivery.id)
    assert (after.state, after.why_dead, len(after.attempts)) == (DEAD, "exhausted", 8)
    assert 27.5 * 3600 < after.attempts[-1].at - began < 34 * 3600
    assert [record.message for record in caplog.records] == ["a webhook was not delivered"]
    assert "hook.example.com" not in str([vars(record) for record in caplog.records]), "a URL may be a key"
    assert office.subscription(made.id).enabled, "one that failed for a day is not given up"
    waits = [b.at - a.at for a, b in zip(after.attempts, after.attempts[1:], strict=False)]
    for wait, planned in zip(waits, domain.RETRY_SECONDS, strict=True):
        assert planned <= wait <= planned * (1 + domain.JITTER) + 180


@given(st.integers(1, 7), st.text("0123456789abcdef", min_size=8, max_size=8))
def test_waits_grow_and_differ_by_delivery(tries: int, unique: str) -> None:
    office = Office()
    office.subscribe()
    (delivery,) = office.happens(identifier=unique)
    wait = domain.wait_seconds(replace(delivery, tries=tries))
    assert wait is not None
    assert domain.RETRY_SECONDS[tries - 1] <= wait <= domain.RETRY_SECONDS[tries - 1] * (1 + domain.JITTER)


def test_a_message_that_comes_again_before_the_next_try_is_due_makes_none(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()
    office.courier.answers = [500]
    assert office.work() == [PENDING]
    sent = len(office.courier.sent)
    assert deliveries.deliver(office.ports, office.courier, delivery.id) is None
    assert len(office.courier.sent) == sent


def test_deliveries_that_failed_together_do_not_come_back_together(office: Office) -> None:
    office.subscribe()
    failed = [office.happens(identifier=str(number))[0] for number in range(20)]
    waits = [domain.wait_seconds(replace(delivery, tries=2)) for delivery in failed]
    assert len(set(waits)) == 20
    spread = domain.RETRY_SECONDS[1] * domain.JITTER
    assert max(w for w in waits if w) - min(w for w in waits if w) > spread / 2


def test_a_receiver_that_asks_for_time_gets_it_but_no_more_than_an_hour(office: Office) -> None:
    office.subscribe()
    office.courier.answers = [Posted(status=429, retry_after_seconds=600.0)]
    (first,) = office.happens(identifier="1")
    office.work()
    assert office.delivery(first.id).not_before == office.clock.moment + 600
    office.courier.answers = [Posted(status=503, retry_after_seconds=1e9)]
    (second,) = office.happens(identifier="2")
    office.work()
    assert office.delivery(second.id).not_before == office.clock.moment + domain.RETRY_AFTER_SECONDS_MOST


def test_a_lost_hint_is_made_good_by_the_sweep_and_sweeps_do_not_rest_before(office: Office) -> None:
    office.subscribe()
    office.happens()
    office.bus.sent.clear()
    assert rest.look(office.ports).any, "a paused schedule could not wake itself for it"
    office.clock.moment += domain.HINT_SECONDS + 1
    assert office.sweep() == [DELIVERED]
    assert not rest.look(office.ports).any
    assert office.sweep() == []


class Dies(BaseException):
    """The end of a worker, as no handler of exceptions sees it."""


def dies() -> None:
    raise Dies


def test_a_worker_that_dies_in_mid_try_is_followed_by_another(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()
    office.courier.before = dies
    with pytest.raises(Dies):
        office.work()
    office.courier.before = lambda: None
    assert deliveries.deliver(office.ports, office.courier, delivery.id) is None, "it may be at it still"
    office.clock.moment += domain.LEASE_SECONDS + 1
    assert office.sweep() == [DELIVERED]


@pytest.mark.parametrize(("answer", "state", "owner"), [(500, PENDING, "another"), (204, DELIVERED, None)])
def test_whoever_is_late_and_finds_another_at_it_says_only_that_it_arrived(
    office: Office, answer: int, state: domain.DeliveryState, owner: str | None
) -> None:
    office.subscribe()
    (delivery,) = office.happens()

    def taken() -> None:
        office.clock.moment += domain.LEASE_SECONDS + 1
        office.put(domain.claimed(office.delivery(delivery.id), "another", office.clock.moment))

    office.courier.before, office.courier.answers = taken, [answer]
    office.work()
    after = office.delivery(delivery.id)
    assert (after.state, after.lease_owner, after.tries) == (state, owner, 2)
    assert [attempt.status for attempt in after.attempts] == [answer]


def test_a_delivery_that_kills_each_worker_ends(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()
    office.courier.before = dies
    for _ in range(20):
        with pytest.raises(Dies) if office.delivery(delivery.id).tries < 8 else contextlib.nullcontext():
            deliveries.deliver(office.ports, office.courier, delivery.id)
        office.clock.moment = max(office.clock.moment, office.delivery(delivery.id).not_before) + 1
    assert office.delivery(delivery.id).state is DEAD


def test_two_workers_at_once_try_once(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()
    again: list[object] = []
    office.courier.before = lambda: again.append(deliveries.deliver(office.ports, office.courier, delivery.id))
    assert office.work() == [DELIVERED]
    assert again == [None]
    assert len(office.courier.sent) == 1


def test_a_worker_that_was_held_up_beyond_its_lease_still_says_that_it_arrived(office: Office) -> None:
    office.subscribe()
    (delivery,) = office.happens()

    def held_up() -> None:
        office.courier.before = lambda: None
        office.clock.moment += domain.LEASE_SECONDS + 1
        office.courier.answers = [500, 200]
        # another one takes it over, fails, and waits; then our own answer comes
        assert deliveries.deliver(office.ports, office.courier, delivery.id) is PENDING

    office.courier.before = held_up
    assert office.work() == [DELIVERED]
    assert [a.status for a in office.delivery(delivery.id).attempts] == [500, 200]
    assert office.delivery(delivery.id).state is DELIVERED


# --- Where it goes ------------------------------------------------------------------------------------------------


def test_a_name_that_leads_inside_is_refused_when_it_is_registered(office: Office) -> None:
    for addresses in (["10.0.0.1"], ["93.184.215.14", "169.254.169.254"], ["::ffff:127.0.0.1"], []):
        office.courier.addresses = [addresses]
        with pytest.raises(InvalidInput) as refused:
            office.subscribe()
        assert refused.value.field == "url"
        assert "10.0.0.1" not in str(refused.value), "what our resolver sees is not theirs to learn"
    assert subscriptions.every(office.ports) == []
    assert office.store.get(SubscriptionIndex, domain.INDEX) is None


def test_a_name_that_leads_inside_later_is_not_connected_to(office: Office) -> None:
    office.subscribe()
    office.courier.addresses = [["127.0.0.1"]]
    (delivery,) = office.happens()
    office.work()
    assert office.courier.sent == []
    (attempt, *_) = office.delivery(delivery.id).attempts
    assert "not the internet's" in attempt.error


def test_a_name_is_looked_up_once_a_try_and_what_was_looked_at_is_connected_to(office: Office) -> None:
    office.subscribe()
    office.courier.asked.clear()
    office.courier.addresses = [["1.1.1.1"], ["127.0.0.1"]]  # a second look would see loopback
    office.happens()
    assert office.work() == [DELIVERED]
    assert office.courier.asked == ["hook.example.com"]
    assert office.courier.sent[0].addresses == ("1.1.1.1",)


# --- The end of a subscription ------------------------------------------------------------------------------------


def test_who_says_gone_is_not_told_any_more(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    made = office.subscribe()
    office.courier.answers = [410]
    (delivery,) = office.happens()
    with caplog.at_level(logging.ERROR):
        assert office.work() == [DEAD]
    assert office.delivery(delivery.id).why_dead == "gone"
    after = office.subscription(made.id)
    assert (after.enabled, after.why_disabled) == (False, "gone")
    assert office.happens(identifier="2") == []
    assert "a webhook is disabled" in [record.message for record in caplog.records]
    assert office.store.find(Alert, Query()) == [], "nobody reads alerts here"
    with pytest.raises(Conflict):
        deliveries.test(office.ports, made.id)
    again = subscriptions.change(office.ports, office.courier, made.id, enabled=True)
    assert (again.enabled, again.why_disabled, again.failing_since) == (True, "", None)
    assert len(office.happens(identifier="3")) == 1


def test_what_fails_for_days_is_disabled_and_said(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    made = office.subscribe()
    office.courier.answers = [500]
    for day in range(5):
        office.happens(identifier=str(day))
        office.work()
        office.sweep_until_settled(seconds=86_400)
    with caplog.at_level(logging.ERROR):
        office.sweep_until_settled()
    assert office.subscription(made.id).why_disabled == "failing"
    assert office.waiting() == []
    assert {found.why_dead for found in office.log()} <= {"exhausted", "disabled"}


def test_people_are_told_that_a_webhook_is_disabled(office: Office) -> None:
    made = office.subscribe()
    office.courier.answers = [410]
    (delivery,) = office.happens()
    ports = dataclasses.replace(office.ports, alerts=True)
    assert deliveries.deliver(ports, office.courier, delivery.id) is DEAD
    (alert,) = office.store.find(Alert, Query())
    assert {"alert_id": alert.id} in [message for _, message in office.bus.sent]
    message = stories.compose(ports, alert)
    assert message is not None
    check(list(message.blocks))
    assert made.id in message.text
    assert "gone" in message.text
    assert "hook.example.com" not in str(message)


def test_what_its_user_has_disabled_while_it_was_told_says_so_whatever_it_answers(office: Office) -> None:
    made = office.subscribe()
    (delivery,) = office.happens()
    office.courier.answers = [410]

    def disable() -> None:
        subscriptions.change(office.ports, office.courier, made.id, enabled=False)

    office.courier.before = disable
    assert office.work() == [DEAD]
    assert office.delivery(delivery.id).why_dead == "gone"
    after = office.subscription(made.id)
    assert (after.enabled, after.why_disabled) == (False, "")


def test_one_success_in_between_starts_the_days_anew(office: Office) -> None:
    made = office.subscribe()
    office.courier.answers = [500]
    office.happens(identifier="a")
    office.work()
    office.sweep_until_settled()
    office.clock.moment += 2 * 86_400
    office.courier.answers = [200]
    office.happens(identifier="b")
    assert office.work() == [DELIVERED]
    assert office.subscription(made.id).failing_since is None
    office.courier.answers = [500]
    office.happens(identifier="c")
    office.work()
    office.sweep_until_settled()
    assert office.subscription(made.id).enabled


def test_nothing_is_sent_to_what_was_deleted(office: Office) -> None:
    made = office.subscribe()
    (waiting,) = office.happens(identifier="1")
    subscriptions.delete(office.ports, made.id)
    assert office.work() == [None]
    assert office.courier.sent == []
    assert office.log() == []
    assert office.happens(identifier="2") == []
    with pytest.raises(Unknown):
        deliveries.test(office.ports, made.id)
    with pytest.raises(Unknown):
        deliveries.replay(office.ports, made.id, waiting.id)


def test_what_is_deleted_while_it_is_told_leaves_nothing(office: Office) -> None:
    made = office.subscribe()
    office.happens()
    office.courier.answers = [500]

    def delete() -> None:
        subscriptions.delete(office.ports, made.id)

    office.courier.before = delete
    assert office.work() == [None]
    assert office.log() == []
    assert not rest.look(office.ports).any
