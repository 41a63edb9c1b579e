"""What is the local dispatcher's own: bounds, pauses between tries, dead letters, and an end that leaves nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

from dumont.adapters.clock import SystemClock
from dumont.adapters.local_bus import LocalBus
from dumont.domain.errors import BusUnavailable
from dumont.local.dispatcher import BODY_BYTES_MAX, Dispatcher, UnknownTopic
from tests.contract.listening import LISTENERS, Listener, function_serving, serving

MakeDispatcher = Callable[..., Dispatcher]


@pytest.fixture(scope="module")
def function_url() -> Iterator[str]:
    with function_serving() as url:
        yield url


@pytest.fixture
def topic() -> Iterator[str]:
    topic = f"topic-{uuid.uuid4().hex[:12]}"
    LISTENERS[topic] = Listener()
    yield topic
    LISTENERS.pop(topic).gate.set()


@pytest.fixture
def make(function_url: str, topic: str) -> Iterator[MakeDispatcher]:
    made: list[Dispatcher] = []

    def make(url: str = function_url, **options: object) -> Dispatcher:
        settings = {"first_retry_seconds": 0.01, "concurrency": 2} | options
        made.append(Dispatcher({topic: url}, SystemClock(), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    LISTENERS[topic].gate.set()
    for dispatcher in made:
        dispatcher.close()


def test_a_message_that_fails_is_tried_again_until_it_succeeds(make: MakeDispatcher, topic: str) -> None:
    LISTENERS[topic].failures = 3
    dispatcher = make()
    dispatcher.publish(topic, {"n": "1"})
    assert dispatcher.drain(20)
    assert [event.data["deliveryAttempt"] for event in LISTENERS[topic].events] == [1, 2, 3, 4]
    assert dispatcher.delivered == 1
    assert dispatcher.dead_letters == []


def test_a_message_that_fails_too_often_becomes_a_dead_letter_that_says_why(
    make: MakeDispatcher, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    LISTENERS[topic].failures = 99
    dispatcher = make(attempts_most=3)
    message_id = dispatcher.publish(topic, {"n": "1"})
    assert dispatcher.drain(20)
    (dead,) = dispatcher.dead_letters
    assert (dead.message_id, dead.topic, dead.message, dead.attempt) == (message_id, topic, {"n": "1"}, 3)
    assert dead.failure == "HTTP 500"
    assert len(LISTENERS[topic].events) == 3
    assert f"gave up message {message_id}" in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "http://[half"])
def test_a_function_that_cannot_be_reached_is_a_failure_like_any_other(
    make: MakeDispatcher, topic: str, url: str
) -> None:
    dispatcher = make(url, attempts_most=2)
    dispatcher.publish(topic, {})
    assert dispatcher.drain(20)
    assert dispatcher.dead_letters[0].attempt == 2


def test_a_message_that_fails_does_not_hold_up_the_others(make: MakeDispatcher, topic: str) -> None:
    dispatcher = make(concurrency=1, first_retry_seconds=60.0)
    LISTENERS[topic].failures = 1
    dispatcher.publish(topic, {"n": "1"})
    LISTENERS[topic].wait_until(lambda: len(LISTENERS[topic].events) == 1)
    dispatcher.publish(topic, {"n": "2"})
    LISTENERS[topic].wait_until(lambda: len(LISTENERS[topic].events) == 2)
    assert LISTENERS[topic].messages == [{"n": "1"}, {"n": "2"}]


def test_no_more_deliveries_are_under_way_than_allowed(make: MakeDispatcher, topic: str) -> None:
    listener = LISTENERS[topic]
    listener.gate.clear()
    dispatcher = make(concurrency=3)
    for number in range(12):
        dispatcher.publish(topic, {"n": str(number)})
    listener.wait_until(lambda: listener.waiting == 3)
    assert dispatcher.pending == 12
    assert not dispatcher.drain(0.05)
    listener.gate.set()
    assert dispatcher.drain(20)
    assert listener.at_once_most == 3
    assert len(listener.messages) == 12


def test_more_messages_than_may_wait_are_refused(make: MakeDispatcher, topic: str) -> None:
    listener = LISTENERS[topic]
    listener.gate.clear()
    dispatcher = make(concurrency=1, waiting_most=2)
    dispatcher.publish(topic, {})
    listener.wait_until(lambda: listener.waiting == 1)
    dispatcher.publish(topic, {})
    dispatcher.publish(topic, {})
    with pytest.raises(BusUnavailable, match="wait already"):
        dispatcher.publish(topic, {})


def test_closing_leaves_no_thread_and_takes_no_more(make: MakeDispatcher, topic: str) -> None:
    before = set(threading.enumerate())
    dispatcher = make(concurrency=4, first_retry_seconds=60.0)
    LISTENERS[topic].failures = 1
    dispatcher.publish(topic, {"waits": "for its second try"})
    LISTENERS[topic].wait_until(lambda: len(LISTENERS[topic].events) == 1)
    dispatcher.close()
    dispatcher.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(BusUnavailable, match="closed"):
        dispatcher.publish(topic, {})


def test_a_topic_without_a_function_is_refused(make: MakeDispatcher) -> None:
    with pytest.raises(UnknownTopic):
        make().publish("nobody-listens", {})


def test_over_http_the_dispatcher_says_what_is_wrong(make: MakeDispatcher, topic: str) -> None:
    dispatcher = make()
    with serving(dispatcher.wsgi) as url:
        taken = httpx.post(url, json={"topic": topic, "message": {"a": "b"}})
        assert taken.status_code == 200
        assert taken.json()["messageId"]
        assert httpx.get(url).status_code == 405
        assert httpx.post(url, content=b"{").status_code == 400
        assert httpx.post(url, json={"topic": topic, "message": {"a": 1}}).status_code == 400
        assert httpx.post(url, json={"topic": "nobody", "message": {}}).status_code == 404
        assert httpx.post(url, content=b" " * (BODY_BYTES_MAX + 1)).status_code == 413
        dispatcher.close()
        assert httpx.post(url, json={"topic": topic, "message": {}}).status_code == 503
        bus = LocalBus(url)
        with pytest.raises(BusUnavailable, match="503"):
            bus.publish(topic, {})
        bus.close()
