"""The worker behind `dumont-subscriptions`: tries the delivery that is named."""

from __future__ import annotations

import logging
import re
from typing import Any

from dumont.edge import events, logs, wiring
from dumont.operations import deliveries

log = logging.getLogger(__name__)

_ID = re.compile(r"^msg_[0-9a-f]{32}$")


def work(event: Any) -> None:
    """Try the delivery that an event names. What cannot be read is spent; an error propagates, so that the bus delivers
    again, and the sweep stands behind it."""
    settings = wiring.settings()
    logs.set_up(settings.log_level)
    events.check_caller()
    named = events.payload_of(event.data).get("delivery_id")
    if not isinstance(named, str) or not _ID.fullmatch(named):
        log.error("message not understood", extra={"event": str(event.get("id", ""))[:64]})
        return
    token = logs.request_id.set(named)
    try:
        state = deliveries.deliver(wiring.ports(), wiring.courier(), named, loopback=settings.webhooks_loopback)
        log.info("worked", extra={"delivery": named, "outcome": state.value if state is not None else "not_ours"})
    except Exception:
        log.exception("work failed", extra={"delivery": named})
        raise
    finally:
        logs.request_id.reset(token)
