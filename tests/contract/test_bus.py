"""What every bus does, with a real function at its other end: delivered at least once, whole, again after a failure."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from dumont.adapters.clock import SystemClock
from dumont.adapters.local_bus import LocalBus
from dumont.domain.errors import BusUnavailable
from dumont.local.dispatcher import Dispatcher
from dumont.local.emulators import subscribe_by_push
from dumont.ports import Bus
from tests.contract.listening import LISTENERS, Listener, function_serving, serving


@dataclass(frozen=True)
class Line:
    """A bus, a topic of its own, and who hears it."""

    bus: Bus
    topic: str
    listener: Listener


@pytest.fixture(scope="module")
def function_url() -> Iterator[str]:
    with function_serving() as url:
        yield url


@contextlib.contextmanager
def local_bus(topic: str, function_url: str) -> Iterator[Bus]:
    dispatcher = Dispatcher({topic: function_url}, SystemClock(), first_retry_seconds=0.01)
    try:
        with serving(dispatcher.wsgi) as url:
            bus = LocalBus(url)
            yield bus
            bus.close()
    finally:
        dispatcher.close()


@contextlib.contextmanager
def pubsub_bus(topic: str, function_url: str, host: str) -> Iterator[Bus]:
    # Here, so that the tests of the local bus do without Google's libraries.
    from dumont.adapters.pubsub_bus import PubSubBus

    project = f"test-{uuid.uuid4().hex[:12]}"
    subscribe_by_push(host, project, topic, function_url)
    bus = PubSubBus(project, emulator_host=host, call_seconds=20.0)
    yield bus
    bus.close()


@pytest.fixture(params=["local", pytest.param("pubsub", marks=pytest.mark.emulator)])
def line(request: pytest.FixtureRequest, function_url: str) -> Iterator[Line]:
    topic = f"topic-{uuid.uuid4().hex[:12]}"
    listener = LISTENERS[topic] = Listener()
    if request.param == "local":
        made = local_bus(topic, function_url)
    else:
        made = pubsub_bus(topic, function_url, request.getfixturevalue("pubsub_emulator"))
    with made as bus:
        yield Line(bus, topic, listener)
    del LISTENERS[topic]


@pytest.mark.parametrize(
    "message",
    [
        {"operation_id": "op-8f3c"},
        {},
        {"machine": "Größe 機械 🦆", "quoted": '"\\\n\u0000', "empty": ""},
        {"long": "é" * 50_000},
    ],
)
def test_a_message_arrives_as_it_was_sent(line: Line, message: Mapping[str, str]) -> None:
    line.bus.publish(line.topic, message)
    line.listener.wait_until(lambda: len(line.listener.events) >= 1)
    assert line.listener.messages[0] == message


def test_each_of_many_messages_arrives_at_least_once(line: Line) -> None:
    sent = [{"operation_id": f"op-{number}"} for number in range(30)]
    for message in sent:
        line.bus.publish(line.topic, message)
    line.listener.wait_until(lambda: len({event["id"] for event in line.listener.events}) >= 30)
    heard = line.listener.messages
    assert [message for message in sent if message not in heard] == []
    assert [message for message in heard if message not in sent] == []


def test_a_message_is_delivered_again_after_a_failure(line: Line) -> None:
    line.listener.failures = 1
    line.bus.publish(line.topic, {"operation_id": "op-1"})
    line.listener.wait_until(lambda: len(line.listener.events) >= 2)
    assert line.listener.messages[:2] == [{"operation_id": "op-1"}] * 2
    assert line.listener.events[0]["id"] == line.listener.events[1]["id"]


def test_a_delivery_is_a_cloud_event_that_names_its_topic(line: Line) -> None:
    line.bus.publish(line.topic, {"a": "b"})
    line.listener.wait_until(lambda: len(line.listener.events) >= 1)
    event = line.listener.events[0]
    assert event["type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert event["source"].startswith("//pubsub.googleapis.com/projects/")
    assert event["source"].endswith(f"/topics/{line.topic}")
    assert event["id"] == event.data["message"]["messageId"]
    assert event.data["message"]["publishTime"]


def test_a_topic_that_nobody_made_is_said_to_be_unavailable(line: Line) -> None:
    with pytest.raises(BusUnavailable):
        line.bus.publish("no-such-topic", {"a": "b"})


def test_no_dispatcher_is_unavailable() -> None:
    bus = LocalBus("http://127.0.0.1:1/", call_seconds=1.0)
    with pytest.raises(BusUnavailable, match="did not answer"):
        bus.publish("topic", {"a": "b"})
    bus.close()


def test_no_pubsub_is_unavailable_in_time() -> None:
    from dumont.adapters.pubsub_bus import PubSubBus

    bus = PubSubBus("test", emulator_host="127.0.0.1:1", call_seconds=0.5)
    with pytest.raises(BusUnavailable):
        bus.publish("topic", {"a": "b"})
    bus.close()


@pytest.mark.emulator
def test_a_topic_may_have_another_name_in_the_project(pubsub_emulator: str, function_url: str) -> None:
    from dumont.adapters.pubsub_bus import PubSubBus

    topic = f"prefixed-{uuid.uuid4().hex[:12]}"
    listener = LISTENERS[topic] = Listener()
    subscribe_by_push(pubsub_emulator, "test-names", topic, function_url)
    bus = PubSubBus("test-names", topics={"plain": topic}, emulator_host=pubsub_emulator)
    bus.publish("plain", {"a": "b"})
    listener.wait_until(lambda: len(listener.events) >= 1)
    bus.close()
