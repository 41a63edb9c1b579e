"""Programs that are told what happens in a world: their receivers, and the courier to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dumont.domain import happenings
from dumont.domain.addresses import Target
from dumont.domain.errors import NotDelivered
from dumont.domain.jobs import Job
from dumont.domain.records import Operation
from dumont.domain.subscriptions import Delivery, DeliveryState, delivery_of
from dumont.operations import deliveries, subscribers, subscriptions
from dumont.optional_ports import Posted
from dumont.ports import Query
from tests.simulation.hints import HintedBus
from tests.simulation.world import World


@dataclass
class Got:
    """One request that reached a receiver."""

    at: float
    url: str
    delivery_id: str
    body: bytes


@dataclass
class Receivers:
    """All receivers, behind a network that fails before or after a request had its effect. `Courier`."""

    world: World
    failing: float
    got: list[Got] = field(default_factory=list)

    def resolve(self, host: str) -> Sequence[str]:
        del host
        self.world.hub.pause("courier.resolve")
        if self.world.hub.rng.random() < self.failing / 4:
            raise NotDelivered("its name leads nowhere")
        return ["93.184.215.14"]

    def post(self, target: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes) -> Posted:
        del addresses
        hub = self.world.hub
        hub.pause("courier.post")
        if hub.rng.random() < self.failing:
            if hub.rng.random() < 0.5:
                raise NotDelivered("no connection")
            return Posted(
                status=hub.rng.choice([301, 404, 429, 500, 503]), retry_after_seconds=hub.rng.choice([0.0, 90.0])
            )
        self.got.append(Got(hub.now, target.url, headers["webhook-id"], body))
        hub.pause("courier.post answers")
        if hub.rng.random() < self.failing:
            raise NotDelivered("no answer in time")
        return Posted(status=204)


@dataclass
class Readers:
    """Who is told of a world: by name, their subscription; and what was to be told, by every commit that was made."""

    world: World
    receivers: Receivers
    ids: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    happened: dict[str, happenings.Happening] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)

    def subscribe(self, name: str, *types: str) -> None:
        """Somebody wants these from now on."""
        quiet = dataclasses.replace(self.world.ports, store=self.world.store.quiet)
        url = f"https://{name}.example.com/"
        calm = Receivers(self.world, failing=0.0)
        made, _ = subscriptions.create(quiet, calm, url=url, types=types or ("*",), created_by="user")
        self.ids[name], self.wanted[name], self.since[name] = made.id, types, self.world.hub.now

    def leave(self, name: str) -> None:
        """Somebody does not any more."""
        subscriptions.delete(dataclasses.replace(self.world.ports, store=self.world.store.quiet), self.ids[name])
        self.until[name] = self.world.hub.now

    def committed(self, collection: str, before: Any, after: Any) -> None:
        """The truth: whatever path the code took to a commit, what it tells is to be told."""
        now = self.world.hub.now
        told: list[happenings.Happening] = []
        if collection == Operation.collection and before is not None and after is not None:
            told = happenings.of_operation(before, after, now)
        elif collection == Job.collection and before is not None:
            told = happenings.of_job(before, after, now)
        for happening in told:
            self.happened.setdefault(happening.id, happening)
            self.first.setdefault(happening.id, now)

    def expected(self, name: str) -> dict[str, str]:
        """What somebody is to be told, as ids of deliveries → types."""
        end = self.until.get(name, float("inf"))
        types = self.wanted[name]
        return {
            delivery_of(happening, self.ids[name], 0.0).id: happening.type
            for key, happening in self.happened.items()
            if self.since[name] <= self.first[key] < end and (not types or happening.type in types)
        }

    def got(self, name: str) -> list[Got]:
        """What reached somebody."""
        return [one for one in self.receivers.got if one.url == f"https://{name}.example.com/"]

    def pending(self) -> list[Delivery]:
        """What is on its way."""
        found = self.world.store.quiet.find(Delivery, Query(limit=10_000))
        return [one for one in found if one.state is DeliveryState.PENDING]


def told_to_programs(world: World, failing: float) -> Readers:
    """Have a world tell programs; `all` is there from the first moment."""
    receivers = Receivers(world, failing)

    def deliver(delivery_id: str) -> None:
        deliveries.deliver(world.ports, receivers, delivery_id)

    world.ports = dataclasses.replace(
        world.ports,
        bus=HintedBus(
            world=world, inner=world.ports.bus, topic=subscribers.TOPIC, names="delivery", task="deliver", work=deliver
        ),
        subscriptions=True,
        subscription_secret=lambda subscription, generation: f"{subscription}/{generation}".encode(),
    )
    readers = Readers(world, receivers)
    world.store.on_commit(readers.committed)
    readers.subscribe("all")
    return readers
