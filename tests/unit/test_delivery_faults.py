"""Deliveries where something of ours fails: the bus, the store, a worker; or is changed in mid-try."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from dumont.domain import subscriptions as domain
from dumont.domain.errors import BusUnavailable
from dumont.operations import subscribers
from tests.unit.webhook_support import Office


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
