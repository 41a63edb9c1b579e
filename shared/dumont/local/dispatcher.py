"""Pub/Sub for the local cloud: takes messages and delivers each to its function as Google's Eventarc does.

A delivery is a CloudEvent over HTTP in binary mode. Any answer but a 2xx is tried again after a pause that grows;
what fails too often becomes a dead letter. Messages live in memory: one that is lost with the process is what the
deadlines are for.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from dumont.adapters.shapes import ready
from dumont.domain.errors import BusUnavailable
from dumont.ports import Clock

_log = logging.getLogger(__name__)

EVENT_TYPE = "google.cloud.pubsub.topic.v1.messagePublished"
BODY_BYTES_MAX = 1 << 20
DEAD_LETTERS_KEPT = 1000


class UnknownTopic(BusUnavailable):
    """No function listens to this topic."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way, or a dead letter with the reason of its last failure; `attempt` counts from 1."""

    message_id: str
    topic: str
    message: Mapping[str, str]
    published_at: float
    attempt: int = 1
    failure: str = ""


class Dispatcher:
    """Delivers messages from `publish`, or from POSTs to `wsgi`, to the push URL of their topic, at least once.

    `routes` is topic → URL and is read at each delivery. At most `concurrency` deliveries are under way, each in a
    thread of its own and for `timeout_seconds`; at most `waiting_most` messages wait before `publish` refuses. The
    pauses between tries double from `first_retry_seconds` up to `most_retry_seconds`.
    """

    def __init__(
        self,
        routes: Mapping[str, str],
        clock: Clock,
        *,
        project: str = "local",
        concurrency: int = 4,
        waiting_most: int = 10_000,
        attempts_most: int = 5,
        first_retry_seconds: float = 0.5,
        most_retry_seconds: float = 30.0,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._routes = routes
        self._clock = clock
        self._project = project
        self._waiting_most = waiting_most
        self._attempts_most = attempts_most
        self._first_retry_seconds = first_retry_seconds
        self._most_retry_seconds = most_retry_seconds
        # The functions are on this machine: a proxy of the environment's could not reach them.
        self._http = httpx.Client(
            timeout=timeout_seconds, trust_env=False, limits=httpx.Limits(max_connections=concurrency)
        )
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Delivery]] = []  # a heap: due time, order of arrival, delivery
        self._arrivals = itertools.count()
        self._in_flight = 0
        self._delivered = 0
        self._dead: deque[Delivery] = deque(maxlen=DEAD_LETTERS_KEPT)
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"dispatcher-{number}", daemon=True)
            for number in range(concurrency)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def dead_letters(self) -> list[Delivery]:
        """The last messages that were given up, oldest first."""
        with self._changed:
            return list(self._dead)

    @property
    def delivered(self) -> int:
        """How many messages were delivered."""
        with self._changed:
            return self._delivered

    @property
    def pending(self) -> int:
        """How many messages wait, to be tried again too, or are being delivered."""
        with self._changed:
            return len(self._waiting) + self._in_flight

    def publish(self, topic: str, message: Mapping[str, str]) -> str:
        """Take a message for delivery and answer with its id. Raises `UnknownTopic`, or `BusUnavailable` if full."""
        if topic not in self._routes:
            raise UnknownTopic(f"no function listens to the topic {topic!r}")
        now = self._clock.now()
        delivery = Delivery(message_id=uuid.uuid4().hex, topic=topic, message=dict(message), published_at=now)
        with self._changed:
            if self._closed:
                raise BusUnavailable("the dispatcher is closed")
            if len(self._waiting) >= self._waiting_most:
                raise BusUnavailable(f"{self._waiting_most} messages wait already")
            self._enqueue(now, delivery)
        return delivery.message_id

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits and nothing is under way; False if time was up before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_flight, timeout_seconds)

    def close(self) -> None:
        """Stop, once the deliveries under way have ended; what waits is dropped, and logged. No thread is left."""
        with self._changed:
            self._closed = True
            dropped = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if dropped:
            _log.warning("dropped %d messages that waited for delivery", dropped)
        for worker in self._workers:
            worker.join()
        self._http.close()

    # --- Delivering -----------------------------------------------------------------------------------------------

    def _enqueue(self, due: float, delivery: Delivery) -> None:
        heapq.heappush(self._waiting, (due, next(self._arrivals), delivery))
        self._changed.notify()

    def _work(self) -> None:
        while (delivery := self._next()) is not None:
            failure = self._deliver(delivery)
            with self._changed:
                self._in_flight -= 1
                if failure is None:
                    self._delivered += 1
                else:
                    self._failed(msgspec.structs.replace(delivery, failure=failure))
                self._changed.notify_all()

    def _next(self) -> Delivery | None:
        """Wait for the next delivery that is due; None once closed."""
        with self._changed:
            while not self._closed:
                wait_seconds = self._waiting[0][0] - self._clock.now() if self._waiting else None
                if wait_seconds is not None and wait_seconds <= 0:
                    self._in_flight += 1
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(wait_seconds)
            return None

    def _failed(self, delivery: Delivery) -> None:
        if delivery.attempt >= self._attempts_most:
            self._dead.append(delivery)
            _log.error(
                "gave up message %s to %s after %d attempts: %s",
                delivery.message_id, delivery.topic, delivery.attempt, delivery.failure,
            )  # fmt: skip
        elif self._closed:
            _log.warning("dropped message %s to %s: closing", delivery.message_id, delivery.topic)
        else:
            pause_seconds = min(self._most_retry_seconds, self._first_retry_seconds * 2.0 ** (delivery.attempt - 1))
            again = msgspec.structs.replace(delivery, attempt=delivery.attempt + 1)
            self._enqueue(self._clock.now() + pause_seconds, again)
            _log.info("message %s to %s again in %.1f s: %s",
                      delivery.message_id, delivery.topic, pause_seconds, delivery.failure)  # fmt: skip

    def _deliver(self, delivery: Delivery) -> str | None:
        """Make one try; the reason if it failed."""
        url = self._routes.get(delivery.topic)
        if url is None:
            return "no function listens any more"
        headers, body = cloud_event(delivery, self._project)
        try:
            response = self._http.post(url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"[:200]
        return None if response.is_success else f"HTTP {response.status_code}"

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A WSGI application for `LocalBus`: POST {"topic": …, "message": {…}} → {"messageId": …}."""
        status, answer = self._answer(environ)
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, dict[str, str]]:
        if environ["REQUEST_METHOD"] != "POST":
            return "405 Method Not Allowed", {"error": "POST a message here"}
        length = environ.get("CONTENT_LENGTH") or ""
        if not length.isdigit():
            return "411 Length Required", {"error": "no length"}
        if int(length) > BODY_BYTES_MAX:
            return "413 Content Too Large", {"error": f"more than {BODY_BYTES_MAX} bytes"}
        try:
            publish = msgspec.json.decode(environ["wsgi.input"].read(int(length)), type=ready(_Publish))
            return "200 OK", {"messageId": self.publish(publish.topic, publish.message)}
        except msgspec.DecodeError as error:
            return "400 Bad Request", {"error": str(error)}
        except UnknownTopic as error:
            return "404 Not Found", {"error": str(error)}
        except BusUnavailable as error:
            return "503 Service Unavailable", {"error": str(error)}


class _Publish(msgspec.Struct, frozen=True):
    topic: str
    message: dict[str, str]


def cloud_event(delivery: Delivery, project: str) -> tuple[dict[str, str], bytes]:
    """The headers and body of a delivery, as a function of the second generation gets a Pub/Sub message."""
    time = datetime.fromtimestamp(delivery.published_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = {
        "ce-id": delivery.message_id,
        "ce-source": f"//pubsub.googleapis.com/projects/{project}/topics/{delivery.topic}",
        "ce-specversion": "1.0",
        "ce-type": EVENT_TYPE,
        "ce-time": time,
        "content-type": "application/json",
    }
    data = json.dumps(dict(delivery.message), ensure_ascii=False, separators=(",", ":")).encode()
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": {},
        "messageId": delivery.message_id,
        "message_id": delivery.message_id,  # Pub/Sub's push sends both spellings
        "publishTime": time,
        "publish_time": time,
    }
    body = {
        "message": message,
        "subscription": f"projects/{project}/subscriptions/eventarc-{delivery.topic}",
        "deliveryAttempt": delivery.attempt,
    }
    return headers, json.dumps(body).encode()
