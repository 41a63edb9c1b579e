"""Gateway tokens, which machine a model leads to, and that requests keep a machine awake."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain.errors import StoreUnavailable
from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.edge.gateway import models, tokens
from dumont.edge.gateway.traffic import Traffic

SECRET = b"s" * 32
NOW = 1_795_000_000.0


def machine(name: str = "trainer", **fields: Any) -> Machine:
    known: dict[str, Any] = {"spec": MachineSpec(), "state": MachineState.RUNNING, "epoch": 1, "created_at": NOW}
    return Machine(id=name, updated_at=NOW, **known | fields)


def opens(text: str, target: Machine | None, now: float = NOW) -> bool:
    token = tokens.read(SECRET, text)
    return token is not None and token.opens(target, now)


# --- Tokens ---


def test_a_token_opens_its_machine_and_no_other() -> None:
    text = tokens.make(SECRET, machine())
    assert opens(text, machine())
    assert not opens(text, machine("other"))
    assert not opens(text, None)


def test_rotation_ends_what_was_given_out() -> None:
    text = tokens.make(SECRET, machine())
    rotated = replace(machine(), gateway_generation=1)
    assert not opens(text, rotated)
    assert opens(tokens.make(SECRET, rotated), rotated)


def test_a_later_machine_of_the_same_name_is_not_opened() -> None:
    assert not opens(tokens.make(SECRET, machine()), machine(created_at=NOW + 60))


def test_a_short_lived_token_ends_by_itself() -> None:
    text = tokens.make(SECRET, machine(), expires_at=int(NOW) + 60)
    assert opens(text, machine(), NOW + 59)
    assert not opens(text, machine(), NOW + 60)


def test_a_token_of_another_secret_is_none() -> None:
    assert tokens.read(SECRET, tokens.make(b"t" * 32, machine())) is None
    assert tokens.read(b"", tokens.make(SECRET, machine())) is None


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_none(data: st.DataObject) -> None:
    text = tokens.make(SECRET, machine())
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    assert tokens.read(SECRET, text[:at] + other + text[at + 1 :]) is None


@given(st.text(max_size=500))
def test_nonsense_is_none(text: str) -> None:
    assert tokens.read(SECRET, text) is None
    assert tokens.read(SECRET, tokens.PREFIX + text) is None


# --- Models ---


def offering(name: str, state: MachineState, *served: str, age: float = 0.0) -> Machine:
    return machine(name, spec=MachineSpec(models=served), state=state, created_at=NOW - age)


def test_a_model_leads_to_the_machine_that_is_nearest_to_serving() -> None:
    asleep = offering("asleep", MachineState.HIBERNATED, "llama", age=9)
    waking = offering("waking", MachineState.WAKING, "llama")
    awake = offering("awake", MachineState.RUNNING, "llama", "qwen")
    failed = offering("failed", MachineState.FAILED, "llama", age=99)
    assert models.machine_of([failed, asleep, waking, awake], "llama") == awake
    assert models.machine_of([failed, asleep, waking], "llama") == waking
    assert models.machine_of([failed], "llama") == failed
    assert models.machine_of([asleep, waking], "qwen") is None


def test_of_two_that_serve_the_older_is_asked() -> None:
    young, old = (offering(name, MachineState.RUNNING, "llama", age=age) for name, age in (("young", 1), ("old", 2)))
    assert models.machine_of([young, old], "llama") == old


def test_models_are_listed_once_with_the_state_of_their_machine() -> None:
    rows = models.listed([
        offering("asleep", MachineState.HIBERNATED, "llama"),
        offering("awake", MachineState.RUNNING, "llama", "qwen"),
    ])  # fmt: skip
    assert [(row["id"], row["object"], row["machine"], row["state"]) for row in rows] == [
        ("llama", "model", "awake", "running"),
        ("qwen", "model", "awake", "running"),
    ]


@pytest.mark.parametrize("state", list(MachineState))
def test_every_state_has_its_distance(state: MachineState) -> None:
    assert (models.nearness(state) == 0) == (state is MachineState.RUNNING)


# --- Traffic ---


class Noted:
    """Counts touches, and lets a test wait for one."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self, _name: str) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def reach(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, timeout=10)


def test_many_requests_are_noted_once() -> None:
    noted, now = Noted(), [NOW]
    traffic = Traffic(noted, lambda: now[0])
    for _ in range(50):
        traffic.begin("trainer")
        traffic.end("trainer")
    assert noted.count == 1
    now[0] += 20.0
    traffic.begin("trainer")
    traffic.end("trainer")
    assert noted.count == 2
    assert traffic.under_way == 0


def test_a_long_request_is_noted_again_while_it_lasts() -> None:
    noted, steps = Noted(), iter(range(10**9))
    traffic = Traffic(noted, lambda: NOW + next(steps), every_seconds=0.02)
    traffic.begin("trainer")
    assert noted.reach(5)
    traffic.end("trainer")


def test_a_request_that_could_not_be_noted_passes_and_the_next_one_tries_again() -> None:
    tries: list[str] = []

    def touch(name: str) -> None:
        tries.append(name)
        raise StoreUnavailable("down")

    traffic = Traffic(touch, lambda: NOW)
    for _ in range(2):
        traffic.begin("trainer")
        traffic.end("trainer")
    assert tries == ["trainer", "trainer"]
