"""Heartbeats fold into what is known of a machine's use, in the store; it is told, kept awake, and learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_ports

import msgspec
import pytest
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.agent.tokens import AgentIdentity
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.heartbeats import Heartbeat, Readings, Report
from dumont.domain.hibernation import BY_BUDGET, PAUSE
from dumont.domain.idle_history import IdleHistory, bin_of
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState
from dumont.domain.tiers import Tier
from dumont.edge import idle_views
from dumont.operations import heartbeats, hibernate, idle, sleeping, wake
from dumont.ports import Ports
from tests.idle_traces import QUIET, having
from tests.unit.rest_support import FrozenBefore, ManualClock, make_ports

NOW = 1_800_000_000.0
IDENTITY = AgentIdentity(machine="trainer", epoch=1, instance="i-1")
SPEC = MachineSpec(idle_after_minutes=3, heartbeat_seconds=5.0, disk_gb=40, time_zone="Europe/Berlin")
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.17, storage_usd_per_gb_hour=0.15 / 720)


class Host:
    """A machine's host, as its heartbeats come in."""

    def __init__(self, spec: MachineSpec = SPEC) -> None:
        self.store, self.clock = MemoryStore(), ManualClock(NOW)
        self.ports: Ports = make_ports(self.store, self.clock)
        self.sequence = 0
        self.put(spec=spec)
        instance = Instance(
            id="i-1",
            machine="trainer",
            epoch=1,
            rented_by="op-1",
            operation_id="op-1",
            provider="vast",
            offer=OFFER,
            disk_gb=40,
            state=InstanceState.PROVEN,
            intended_at=NOW,
            proven_at=NOW,
        )
        self.store.transact(lambda tx: tx.put(instance))

    def put(self, **changes: object) -> None:
        machine = self.store.get(Machine, "trainer") or Machine(
            id="trainer",
            spec=SPEC,
            state=MachineState.RUNNING,
            epoch=1,
            created_at=NOW,
            updated_at=NOW,
            instance_id="i-1",
            running_since=NOW,
        )
        self.store.transact(lambda tx: tx.put(replace(machine, **changes)))

    def beat(self, readings: Readings = QUIET, *, seconds: float = 5.0, boot: str = "boot-1") -> Heartbeat:
        self.clock.sleep(seconds)
        report = Report(boot_id=boot, sequence=self.sequence, readings=readings)
        self.sequence += 1
        heartbeats.receive(self.ports, IDENTITY, report)
        kept = self.store.get(Heartbeat, "i-1")
        assert kept is not None
        return kept

    def rest(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.beat()


def test_heartbeats_prove_that_a_machine_is_idle() -> None:
    host = Host()
    host.beat()
    host.rest(180)
    before = idle.look(host.ports, "trainer")
    assert before.verdict is not None
    assert not before.verdict.idle, "the first heartbeat has no memory to compare with"
    host.rest(5)
    seen = idle.look(host.ports, "trainer")
    assert seen.verdict is not None
    assert seen.verdict.idle
    assert seen.choice is not None


def test_the_readings_are_told_beside_their_limits() -> None:
    host = Host(replace(SPEC, sleep_at=("daily 22:00",)))
    host.rest(60)
    host.beat(having(cpu_percent=55.0, ssh_sessions=None))
    view = idle_views.idle(idle.look(host.ports, "trainer"))
    assert view["idle"] is False
    states = {signal["name"]: signal["state"] for signal in view["signals"]}
    assert states["cpu"] == "active"
    assert states["ssh_sessions"] == "unknown"
    assert any("processor" in word for word in view["words"])
    assert view["next_due"]["action"] == "sleep"
    assert msgspec.json.decode(msgspec.json.encode(view))["sleep"]["rows"]


def test_a_stretch_that_ends_is_learned_once() -> None:
    host = Host()
    host.rest(900)
    host.beat(having(cpu_percent=55.0))
    host.beat(having(cpu_percent=55.0))
    learned = host.store.get(IdleHistory, "trainer")
    assert learned is not None
    assert learned.stretches == 1
    assert learned.weights[bin_of(890)] == 1.0


def test_a_host_that_is_not_to_serve_proves_nothing() -> None:
    host = Host()
    host.rest(900)
    host.put(state=MachineState.FAILING_OVER)
    activity = host.beat().activity
    assert activity is not None
    assert not activity.serving
    host.put(state=MachineState.RUNNING)
    fresh = host.beat().activity
    assert fresh is not None
    assert fresh.proven_idle_seconds == 0.0


def test_keeping_a_machine_awake_lasts_until_its_time_whatever_heartbeats_say() -> None:
    host = Host()
    host.rest(300)
    idle.keep(host.ports, "trainer", seconds=600)
    host.rest(300)
    seen = idle.look(host.ports, "trainer")
    assert seen.verdict is not None
    assert not seen.verdict.idle
    assert idle_views.idle(seen)["keep_until"] == NOW + 900
    host.rest(300)
    later = idle.look(host.ports, "trainer").verdict
    assert later is not None
    assert later.idle


def test_a_keep_alive_is_ended_by_word_too() -> None:
    host = Host()
    host.rest(300)
    idle.keep(host.ports, "trainer", seconds=3600)
    idle.keep(host.ports, "trainer", seconds=0)
    seen = idle.look(host.ports, "trainer")
    assert seen.verdict is not None
    assert seen.verdict.idle
    machine = host.store.get(Machine, "trainer")
    assert machine is not None
    assert machine.deadline == host.clock.now(), "the sweep looks at once, not when the keep-alive would have ended"


def test_what_sleeps_or_is_gone_cannot_be_kept_awake() -> None:
    host = Host()
    host.put(state=MachineState.HIBERNATED, instance_id=None, paused_instance_id="i-1", slept_at=NOW)
    with pytest.raises(Conflict):
        idle.keep(host.ports, "trainer", seconds=60)
    host.put(state=MachineState.DESTROYED)
    with pytest.raises(Conflict):
        idle.keep(host.ports, "trainer", seconds=60)
    with pytest.raises(Unknown):
        idle.keep(host.ports, "nobody", seconds=60)


def test_of_a_machine_that_sleeps_it_is_told_when_it_deepens() -> None:
    host = Host()
    host.put(state=MachineState.HIBERNATED, instance_id=None, paused_instance_id="i-1", slept_at=NOW)
    host.clock.sleep(60)
    seen = idle.look(host.ports, "trainer")
    view = idle_views.idle(seen)
    assert view["idle"] is None
    assert view["words"] == ("it is hibernated: only what serves can be idle",)
    assert seen.choice is not None
    assert seen.choice.tier is Tier.PAUSE
    assert seen.choice.next_tier is Tier.HIBERNATE


def sleep_and_wake(requested_by: str) -> IdleHistory | None:
    """What a machine learns that has rested for ten minutes, then sleeps for an hour, and is woken."""
    host = Host()
    host.rest(605)
    hibernate.request(host.ports, "trainer", tier=PAUSE, requested_by=requested_by)
    host.clock.sleep(3600)
    host.put(state=MachineState.HIBERNATED, instance_id=None, operation_id=None, slept_at=host.clock.now() - 3590)
    wake.request(host.ports, "trainer", requested_by="gateway")
    wake.request(host.ports, "trainer", requested_by="gateway")
    return host.store.get(IdleHistory, "trainer")


def test_a_wake_teaches_how_long_it_was_not_used_the_time_before_it_slept_included() -> None:
    learned = sleep_and_wake("idleness")
    assert learned is not None
    assert learned.stretches == 1, "two wakes at once are one"
    assert learned.weights[bin_of(4200.0)] == 1.0


def test_a_sleep_for_want_of_money_teaches_nothing() -> None:
    assert sleep_and_wake(BY_BUDGET) is None


@pytest.mark.parametrize(
    ("meanwhile", "sleeps"),
    [
        (lambda host: host.beat(seconds=1.0), True),
        (lambda host: host.beat(having(cpu_percent=90.0), seconds=1.0), False),
        (lambda host: idle.keep(host.ports, "trainer", seconds=600), False),
    ],
    ids=["nothing", "use", "a keep-alive"],
)
def test_a_sweep_that_is_frozen_once_it_has_judged_puts_nothing_to_sleep_that_is_used_by_then(
    meanwhile: Callable[[Host], object], sleeps: bool
) -> None:
    """Simulation: job seed 77100039, invariant 6."""
    host = Host(replace(SPEC, sleep_tier="hibernate"))
    host.beat()
    host.rest(900)
    machine = host.store.get(Machine, "trainer")
    assert machine is not None
    sweeps = with_ports(host.ports, store=FrozenBefore(host.store, lambda: meanwhile(host)))
    sleeping.by_idleness(sweeps, machine, host.clock.now())
    found = host.store.get(Machine, "trainer")
    assert found is not None
    assert found.state is (MachineState.HIBERNATING if sleeps else MachineState.RUNNING)


def test_a_sweep_that_is_frozen_once_it_has_judged_a_paused_machine_lets_it_run_if_it_was_woken() -> None:
    host = Host(replace(SPEC, sleep_tier="hibernate"))
    host.put(state=MachineState.HIBERNATED, instance_id=None, paused_instance_id="i-1", slept_at=NOW, unused_since=NOW)
    machine = host.store.get(Machine, "trainer")
    assert machine is not None

    def woken() -> None:
        host.put(state=MachineState.RUNNING, instance_id="i-1", paused_instance_id=None)

    host.clock.sleep(3600.0)
    sweeps = with_ports(host.ports, store=FrozenBefore(host.store, woken))
    sleeping.by_idleness(sweeps, machine, host.clock.now())
    found = host.store.get(Machine, "trainer")
    assert found is not None
    assert (found.state, found.operation_id) == (MachineState.RUNNING, None)
