"""The bus beside a world's own: hints to a worker that operations do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dumont.domain.errors import BusUnavailable
from dumont.ports import Bus
from tests.simulation.world import World


@dataclass(kw_only=True)
class HintedBus:
    """The world's bus, with a worker behind one topic: hints are lost, come late, or twice."""

    world: World
    inner: Bus
    topic: str
    names: str
    """What a hint is about: "alert" is in its "alert_id"."""
    task: str
    """What the worker does with it, in a word."""
    work: Callable[[str], object]
    twice_at_least: float = 0.0
    """How often a hint comes twice in any weather."""

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        """As `Bus` has it."""
        if topic != self.topic:
            self.inner.publish(topic, message)
            return
        world = self.world
        world.hub.pause(f"bus.publish {self.names}")
        if world.outages.away("bus", world.hub.now):
            raise BusUnavailable("the bus does not answer")
        rng, weather = world.hub.rng, world.weather
        if rng.random() < weather.message_lost:
            return
        for _ in range(2 if rng.random() < max(weather.message_twice, self.twice_at_least) else 1):
            world.hub.after(rng.expovariate(1 / 0.1), lambda: self._deliver(message[f"{self.names}_id"]))

    def _deliver(self, identifier: str) -> None:
        world = self.world

        def work() -> None:
            self.work(identifier)

        def ended(error: Exception | None) -> None:
            if error is not None and not world.expected(error):
                world.defects.append(error)

        world.hub.spawn(f"{self.task} {identifier}", work, dies_at=world.death(), ended=ended)
