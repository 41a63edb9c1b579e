"""Agents on hosts, in virtual time: the real decisions of the agent (its mandate), over a network that may fail."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dumont.agent import tokens
from dumont.agent.host.answers import Answer, WorkloadSpec, read_answer
from dumont.agent.host.mandate import Mandate
from dumont.domain.errors import StoreError
from dumont.domain.heartbeats import Readings, Report, WorkloadSeen
from dumont.local.market.instance import Instance as MarketInstance
from dumont.operations import heartbeats

if TYPE_CHECKING:
    from tests.simulation.world import World

START_SECONDS_MOST = 2.0
TIMEOUT_SECONDS = 4.0
HURRY_SECONDS = 0.3
SECRET = b"s" * 32


@functools.lru_cache(maxsize=256)
def _identity(token: str) -> tokens.AgentIdentity | None:
    """Whose token it is: it comes with each heartbeat, and is the same each time."""
    return tokens.read(SECRET, token)


@functools.lru_cache(maxsize=256)
def _answer(body: bytes) -> Answer | None:
    """What a heartbeat's answer says: most say the same."""
    return read_answer(200, body)


class TwoServeError(AssertionError):
    """Two hosts run one machine's workload at once."""


@dataclass
class Agent:
    """The agent of one container."""

    instance: MarketInstance
    config: dict[str, Any]
    container_since: float
    interval_seconds: float
    mandate: Mandate = field(default_factory=Mandate)
    sequence: int = 0
    alive: bool = True
    runs_until: float = 0.0
    """While it stops its workload, until when it may still run."""
    began_at: float | None = None
    """Of a job's command: when it began to run."""
    restarts: int = 0
    exited: int | None = None

    @property
    def machine(self) -> str:
        """Whose workload it runs."""
        return str(self.config["machine"])


class SimAgents:
    """The agents of all hosts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agents: dict[int, Agent] = {}
        self._pushed: dict[int, dict[str, Any]] = {}
        self._looks_at = 0.0

    def start(self) -> None:
        """Begin to look after containers."""
        self.look()

    def look(self) -> None:
        """See which containers there are now, and again when the market says that this changes."""
        world = self._world
        now = world.hub.now
        there = {i.id: i for i in [*world.market.live(now), *world.market.unreached(now)]}
        for instance_id in set(self._agents) - set(there):
            self._agents.pop(instance_id).alive = False
        for instance in there.values():
            self._follow(instance, now)
        change_at = world.market.next_change(now)
        if change_at is not None and not now < self._looks_at <= change_at:
            self._looks_at = change_at
            world.hub.at(change_at, self._look_as_planned)

    def _look_as_planned(self) -> None:
        if self._world.hub.now >= self._looks_at:
            self._looks_at = 0.0
            self.look()

    def _follow(self, instance: MarketInstance, now: float) -> None:
        since = instance.container_since(now)
        known = self._agents.get(instance.id)
        if known is not None and (since is None or since != known.container_since):
            known.alive = False
            del self._agents[instance.id]
            known = None
        if since is not None and known is None and instance.order.onstart:
            line = next(line for line in instance.order.onstart.splitlines() if line.startswith('{"url"'))
            self._begin(instance, self._pushed.get(instance.id) or json.loads(line), since)

    def _begin(self, instance: MarketInstance, config: dict[str, Any], since: float) -> None:
        agent = Agent(instance, config, since, float(config["interval_seconds"]))
        self._agents[instance.id] = agent
        self._world.hub.after(self._world.hub.rng.uniform(0, START_SECONDS_MOST), lambda: self._beat(agent))

    def push(self, instance_id: int, config: dict[str, Any]) -> None:
        """SSH brought a configuration and started the agent with it, in place of what ran."""
        self._pushed[instance_id] = config
        known = self._agents.pop(instance_id, None)
        if known is not None:
            known.alive = False
        self.look()

    def _beat(self, agent: Agent) -> None:
        world = self._world
        if not agent.alive:
            return
        if world.hub.rng.random() < world.weather.agent_dies:
            agent.alive = False  # its process; the container runs on, and its workload with it until its lease ends
            return
        world.hub.after(agent.interval_seconds, lambda: self._beat(agent))
        self._speak(agent)

    def news(self, instance_id: int) -> None:
        """Something happened on a host that its agent tells at once."""
        agent = self._agents.get(instance_id)
        if agent is not None and agent.alive:
            self._world.hub.after(HURRY_SECONDS, lambda: self._speak(agent))

    def _speak(self, agent: Agent) -> None:
        world = self._world
        now = world.hub.now
        if not agent.alive:
            return
        agent.sequence += 1
        if world.outages.away("functions", now) or not agent.instance.network_works(now):
            return
        if world.hub.rng.random() < world.weather.request_lost:
            return
        world.hub.spawn(
            f"heartbeat {agent.machine}",
            lambda: self._send(agent, now),
            dies_at=world.death(),
            ended=lambda error: world.defects.append(error) if error is not None else None,
        )

    def _send(self, agent: Agent, sent_at: float) -> None:
        world = self._world
        identity = _identity(agent.config["token"])
        assert identity is not None
        try:
            use = world.use_of(agent.instance)
            report = Report(
                sequence=agent.sequence,
                readings=use.readings(sent_at) if use is not None else Readings(),
                workload=self._workload(agent, sent_at),
                engine=world.engines.newest(agent.instance.id),
            )
            reply = heartbeats.receive(world.ports, identity, report)
        except StoreError:
            return
        world.hub.pause("heartbeat.answer")
        now = world.hub.now
        if not agent.alive or now > sent_at + TIMEOUT_SECONDS or not agent.instance.network_works(now):
            return
        if world.hub.rng.random() < world.weather.answer_lost:
            return
        answer = _answer(msgspec.json.encode(reply))
        assert answer is not None
        before = agent.mandate.wanted(now)
        agent.mandate.hear(answer, sent_at)
        agent.interval_seconds = answer.interval_seconds
        after = agent.mandate.wanted(now)
        if after is not None and agent.began_at is None and agent.exited is None:
            self._begin_command(agent, after)
        if before is not None and after is None:
            agent.began_at = None
            ends_at = agent.mandate.ends_at()
            agent.runs_until = min(now + before.stop_seconds, ends_at if ends_at is not None else 1e12)
            world.hub.at(agent.runs_until + HURRY_SECONDS, lambda: self._speak(agent))
        if after is not None:
            self._alone(agent, now)
        if agent.mandate.destroys(now) and agent.instance.exists(now):
            world.market.destroy(agent.instance.id, now)
            world.changed = world.market_changed = True
            self.look()

    def _begin_command(self, agent: Agent, wanted: WorkloadSpec) -> None:
        """A command that is "job SECONDS STATUS" ends after so long, if it is let; any other never does."""
        words = wanted.run.split()
        if words[0] != "job":
            return
        began_at = agent.began_at = self._world.hub.now
        self._world.hub.after(float(words[1]), lambda: self._command_ends(agent, began_at, int(words[2])))

    def _command_ends(self, agent: Agent, began_at: float, status: int) -> None:
        now = self._world.hub.now
        if agent.began_at != began_at:
            return
        agent.began_at = None
        wanted = agent.mandate.wanted(now)
        if not agent.alive or wanted is None or not self.runs(agent, now):
            return  # its lease ran out before: it begins again with the next answer that says so
        content = f"{agent.sequence} {now}".encode()
        self._world.files.setdefault(agent.instance.id, {})[f"user/out-{agent.machine}"] = content
        if status != 0 and agent.restarts < (wanted.max_restarts or 0):
            agent.restarts += 1
            self._begin_command(agent, wanted)
            return
        agent.exited = status
        self.news(agent.instance.id)

    def _workload(self, agent: Agent, now: float) -> WorkloadSeen:
        if agent.exited is not None:
            return WorkloadSeen(state="exited", exit_status=agent.exited, restarts=agent.restarts)
        return WorkloadSeen(state="running" if self.runs(agent, now) else "stopped")

    def _alone(self, agent: Agent, now: float) -> None:
        """Invariant 1, at each moment in which a workload is begun or goes on."""
        for other in self._agents.values():
            if other is agent or other.machine != agent.machine or not self.runs(other, now):
                continue
            # A host that was told never to stop by itself, and was struck out by a provider that cannot reach it.
            if other.mandate.ends_at() is not None or other.instance.exists(now):
                raise TwoServeError(f"invariant 1: {agent.machine} runs on {other.instance.id} and {agent.instance.id}")

    @staticmethod
    def runs(agent: Agent, now: float) -> bool:
        """Whether a container may run its workload now."""
        if agent.instance.container_since(now) != agent.container_since or agent.exited is not None:
            return False
        return agent.mandate.wanted(now) is not None or now < agent.runs_until

    def serving(self, machine: str) -> list[int]:
        """The instances that run a machine's workload now."""
        now = self._world.hub.now
        return [a.instance.id for a in self._agents.values() if a.machine == machine and self.runs(a, now)]

    def lives(self, instance_id: int) -> bool:
        """Whether an instance's agent runs, heard or not."""
        agent = self._agents.get(instance_id)
        return agent is not None and agent.alive
