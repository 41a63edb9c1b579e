"""The agent's way onto a host: in the rental's on-start script, or over SSH."""

from __future__ import annotations

from dumont.agent import boot, tokens
from dumont.agent.boot import AgentConfig, AgentNotStarted
from dumont.domain.errors import ShellError
from dumont.domain.heartbeats import WAITING_INTERVAL_SECONDS
from dumont.domain.records import Instance, Machine, MachineSpec
from dumont.ports import Ports

CONNECT_SECONDS = 8.0


def config(ports: Ports, machine: str, epoch: int, instance_id: str, spec: MachineSpec) -> AgentConfig:
    """What an agent on this instance is started with."""
    return AgentConfig(
        url=ports.public_url,
        token=tokens.make(ports.agent_secret(), machine, epoch, instance_id),
        machine=machine,
        instance=instance_id,
        epoch=epoch,
        workspace=spec.workspace,
        interval_seconds=min(WAITING_INTERVAL_SECONDS, spec.heartbeat_seconds),
        lease_seconds=spec.fence_after_seconds,
    )


def on_start(ports: Ports, machine: str, epoch: int, instance_id: str, spec: MachineSpec) -> str:
    """The rental's on-start script; "" where agents could not reach us."""
    return boot.on_start(config(ports, machine, epoch, instance_id, spec)) if ports.public_url else ""


def push(ports: Ports, machine: Machine, instance: Instance) -> None:
    """Put the agent onto a running host and start it, whatever became of the one before. Raises `ShellError`."""
    if not ports.public_url:
        raise ShellError("no agent can reach us (DUMONT_PUBLIC_URL)")
    if instance.ssh is None:
        raise ShellError("it has no address")
    session = ports.make_shell().connect(instance.ssh, host_key=instance.host_key, timeout_seconds=CONNECT_SECONDS)
    try:
        boot.push(session, config(ports, machine.id, instance.epoch, instance.id, machine.spec))
    except AgentNotStarted as error:
        raise ShellError(str(error)) from error
    finally:
        session.close()
