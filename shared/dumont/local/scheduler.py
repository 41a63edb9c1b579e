"""Cloud Scheduler for the local cloud: starts `heartbeat-check` each minute, as the deployed one is started."""

from __future__ import annotations

import logging
import threading

import httpx

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0


class Scheduler:
    """Calls a URL each minute, from now on; a call may last as long as the minute."""

    def __init__(self, url: str, api_key: str, *, every_seconds: float) -> None:
        self._url = url
        self._arguments = {"seconds": f"{EVERY_SECONDS - 0.5}", "every_seconds": str(every_seconds)}
        self._stop = threading.Event()
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"}, timeout=EVERY_SECONDS + 30, trust_env=False
        )
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; a call under way is dropped, its sweeps are idempotent."""
        self._stop.set()
        self._http.close()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = 0.0
            try:
                answer = self._http.post(self._url, params=self._arguments)
                if not answer.is_success:
                    log.error("heartbeat-check failed", extra={"status": answer.status_code})
                    pause = 1.0
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed while we were asking
                if not self._stop.is_set():
                    log.error("heartbeat-check did not answer", extra={"error": str(error)})
                pause = 1.0
            # A sweep that lasted its minute is followed by the next at once, as by a schedule of every minute.
            self._stop.wait(pause)
