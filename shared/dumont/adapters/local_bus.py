"""A `Bus` to the local cloud: each message goes by HTTP to its dispatcher, which delivers it as Google would."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from dumont.domain.errors import BusUnavailable

CALL_SECONDS = 10.0


class LocalBus:
    """Posts {"topic": …, "message": {…}} to the dispatcher's URL; safe across threads."""

    def __init__(self, url: str, *, call_seconds: float = CALL_SECONDS) -> None:
        self._url = url
        # The dispatcher is on this machine: a proxy of the environment's could not reach it.
        self._http = httpx.Client(timeout=call_seconds, trust_env=False)

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        """Send a message and wait until the dispatcher has it; raises `BusUnavailable`."""
        try:
            response = self._http.post(self._url, json={"topic": topic, "message": dict(message)})
        except httpx.HTTPError as error:
            raise BusUnavailable(f"the local dispatcher did not answer: {type(error).__name__}") from error
        if not response.is_success:
            raise BusUnavailable(f"the local dispatcher refused ({response.status_code}): {response.text[:200]}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
