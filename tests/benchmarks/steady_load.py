"""HTTP requests on a fixed schedule (open loop): a slow answer does not slow down what is sent after it.

A client that sends its next request only when the last is answered leaves out just those requests that would have
waited ("coordinated omission"). Here each request's latency counts from when it was due, not from when it was sent.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 32
"""At 50 requests a second all of them are busy only if answers take 0.64 s; further requests wait, and it counts."""


@dataclass
class Outcome:
    """What came of a schedule. Times in seconds, one for each request that was answered with 200."""

    latencies: list[float] = field(default_factory=list)
    """From when a request was due to the last byte of its answer."""
    late: list[float] = field(default_factory=list)
    """Of it, the part before the request was sent: the client's own, as far as a connection was free."""
    refused: list[str] = field(default_factory=list)
    """What went wrong with the others."""


def send(url: str, headers: Mapping[str, str], *, per_second: float, seconds: float) -> Outcome:
    """GET the URL so often for so long, on connections that are kept alive."""
    outcome = Outcome()
    arrivals = iter(range(int(per_second * seconds)))
    taking, writing = threading.Lock(), threading.Lock()
    ready = threading.Barrier(CONNECTIONS + 1)
    began = [0.0]

    def work() -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.connect()
        ready.wait()
        ready.wait()  # between the two, the schedule's start is set
        while True:
            with taking:
                number = next(arrivals, None)
            if number is None:
                break
            due = began[0] + number / per_second
            time.sleep(max(0.0, due - time.perf_counter()))  # the schedule itself
            sent = time.perf_counter()
            try:
                connection.request("GET", target, headers=dict(headers))
                response = connection.getresponse()
                body = response.read()
                problem = "" if response.status == 200 else f"{response.status} {body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()  # it connects anew with the next request
                problem = f"{type(error).__name__}: {error}"
            ended = time.perf_counter()
            with writing:
                if problem:
                    outcome.refused.append(problem)
                else:
                    outcome.latencies.append(ended - due)
                    outcome.late.append(sent - due)
        connection.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in itertools.repeat(None, CONNECTIONS)]
    for thread in threads:
        thread.start()
    ready.wait()
    began[0] = time.perf_counter() + 0.2
    ready.wait()
    for thread in threads:
        thread.join()
    return outcome
