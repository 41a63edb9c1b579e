"""Histories in which people are told: whatever dies, is lost or comes twice, the chat says each thing once, and in the
end says how it is. The chat itself fails, loses answers, and is away for a while; no invariant minds."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field

import pytest

from dumont.domain.alerts import Alert, AlertKind
from dumont.domain.errors import NotTold
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.messages import Message
from dumont.domain.moving import is_fenced
from dumont.domain.records import Operation, OperationKind, OperationState
from dumont.edge.slack import stories
from dumont.operations import alerts
from dumont.ports import Query
from tests.simulation.hints import HintedBus
from tests.simulation.history import run
from tests.simulation.test_histories import FIRST_SEED
from tests.simulation.world import World

SEEDS = int(os.environ.get("SIMULATION_ALERT_SEEDS", "20"))
BATCH = 10


@dataclass
class Chat:
    """A chat in a world: each call takes a moment, in which its caller may die, and may fail before or after it had its
    effect."""

    world: World
    failing: float
    edits: bool = True
    posts: list[tuple[str, float]] = field(default_factory=list)
    shown: dict[str, Message] = field(default_factory=dict)

    def post(self, message: Message, *, key: str) -> str:
        self._before("post")
        reference = f"{key}#{len(self.posts)}"
        self.posts.append((key, self.world.hub.now))
        self.shown[reference] = message
        self._after("post")
        return reference

    def edit(self, reference: str, message: Message) -> None:
        self._before("edit")
        self.shown[reference] = message
        self._after("edit")

    def find(self, key: str, since: float) -> str | None:
        self._before("find")
        found = [n for n, (posted, at) in enumerate(self.posts) if posted == key and at >= since]
        return f"{key}#{found[0]}" if found else None

    def _before(self, call: str) -> None:
        self.world.hub.pause(f"chat.{call}")
        if self.world.hub.rng.random() < self.failing:
            seconds = self.world.hub.rng.choice([0.0, 2.0, 30.0])
            raise NotTold("too many", retry_after_seconds=seconds)

    def _after(self, call: str) -> None:
        self.world.hub.pause(f"chat.{call} answers")
        if self.world.hub.rng.random() < self.failing:
            raise NotTold("the answer is lost", may_be_there=True)


def tell_people(world: World, *, failing: float) -> Chat:
    """The chat that a world tells what happens, from now on."""
    chat = Chat(world, failing=failing)

    def tell(alert_id: str) -> None:
        alerts.tell(world.ports, chat, lambda alert: stories.compose(world.ports, alert), alert_id)

    bus = HintedBus(
        world=world, inner=world.ports.bus, topic=alerts.TOPIC, names="alert", task="tell", work=tell,
        twice_at_least=0.1,
    )  # fmt: skip
    world.ports = dataclasses.replace(world.ports, bus=bus, alerts=True)
    return chat


def told(seed: int) -> tuple[World, Chat]:
    """A history that is told."""
    chats: list[Chat] = []

    def watch(world: World) -> None:
        chats.append(tell_people(world, failing=(0.0, 0.1, 0.4)[seed % 3]))

    def tell_the_rest(world: World) -> None:
        chats[0].failing = 0.0
        world.hub.run(world.hub.now + alerts.MOST_RETRY_SECONDS + 200.0)

    return run(seed, watch=watch, afterwards=tell_the_rest), chats[0]


def check(world: World, chat: Chat) -> int:
    """Each thing was told once, and the chat says how it is; how many were told."""
    keys = [key for key, _ in chat.posts]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"told twice: {twice}"
    wanted = set()
    for op in world.ports.store.find(Operation, Query(limit=10_000)):
        # What a budget tries in vain is told once for all tries, from the second on (`domain.enforcement`).
        in_vain = op.requested_by == BY_BUDGET and op.state is OperationState.FAILED
        told_of = {
            OperationKind.FAILOVER: is_fenced(op) or op.state is OperationState.FAILED,
            OperationKind.HIBERNATE: not op.open and op.state is not OperationState.SUPERSEDED and not in_vain,
            OperationKind.WAKE: not op.open,
            OperationKind.REAP: not op.open,
        }
        if told_of.get(op.kind, False):
            wanted.add(f"operation.{op.id}")
    known = {alert.id: alert for alert in world.ports.store.find(Alert, Query(limit=10_000))}
    missing = wanted - set(keys)
    assert not missing, f"never told: {[(key, known.get(key)) for key in missing]}"
    waiting = [alert for alert in known.values() if alert.deadline is not None]
    assert not waiting, f"still to be told: {waiting}"
    for reference, message in chat.shown.items():
        alert = known[reference.partition("#")[0]]
        if alert.kind is AlertKind.OPERATION:
            op_now = world.ports.store.get(Operation, alert.operation_id)
            assert op_now is not None
            assert message.final or op_now.open, f"its end was not told: {message.text}"
    return len(keys)


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_each_thing_is_told_once_whatever_happens(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        try:
            check(*told(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
