"""Look at a suspect from every side: its heartbeat, its provider, its SSH; and how many others fell silent with it."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont import queries
from dumont.domain import detection, failover
from dumont.domain.detection import Verdict
from dumont.domain.errors import NotFound, ProviderError, ShellError, ShellRefused, ShellUnreachable
from dumont.domain.evidence import Evidence, ProviderWord, ShellWord
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import Instance, Machine, MachineState, Operation, OperationKind, Step
from dumont.operations import agents
from dumont.operations.invocation import Invocation
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

SHELL_SECONDS = 2.0
EVIDENCE_KEPT = 6
AT_ONCE_SECONDS = 300.0
"""Silences that began within this count as one event."""
DAY_SECONDS = 86_400.0


def look(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Gather evidence and write it down; the next decision judges it. What cannot be read is unknown."""
    ports = invocation.ports
    instance = ports.store.get(Instance, op.suspect_instance_id or "")
    provider = _provider_word(ports, instance)
    shell: ShellWord = "unknown"
    if provider in ("running", "starting", "unknown"):
        shell = _shell_word(ports, machine)
    beat = ports.store.get(Heartbeat, op.suspect_instance_id or "")
    silent, heard = _fleet(ports, invocation.now())
    seen = Evidence(
        at=invocation.now(),
        heartbeat_at=beat.received_at if beat is not None and beat.sequence >= 0 else None,
        provider=provider,
        shell=shell,
        notice=op.path,
        fleet_silent=silent,
        fleet_heard=heard,
        failovers_at=_failovers_at(ports, op, invocation.now()),
    )
    before = detection.judge(op.evidence, op.suspected_at).verdict
    looked = invocation.apply(lambda _tx, o, _machine: replace(o, evidence=(*o.evidence, seen)[-EVIDENCE_KEPT:]))
    finding = detection.judge(looked.evidence, looked.suspected_at)
    if finding.verdict is Verdict.MASS and before is not Verdict.MASS:
        # An alert: nothing more happens by itself until a person has looked, or fewer are silent.
        log.error("many machines fell silent at once", extra={"machine": op.machine, "why": finding.why})


def _provider_word(ports: Ports, instance: Instance | None) -> ProviderWord:
    if instance is None or instance.provider_instance_id is None:
        return "unknown"
    try:
        return ports.providers[instance.provider].get(instance.provider_instance_id).status.value
    except NotFound:
        return "gone"
    except ProviderError as error:
        log.info("the provider does not say", extra={"instance": instance.id, "error": str(error)})
        return "unknown"


def _shell_word(ports: Ports, machine: Machine) -> ShellWord:
    if machine.ssh is None:
        return "unknown"
    try:
        ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=SHELL_SECONDS).close()
    except ShellUnreachable:
        return "silent"
    except ShellRefused:
        return "refuses"
    except ShellError:  # another host key: whoever answers there is not this machine
        return "refuses"
    return "answers"


def _fleet(ports: Ports, now: float) -> tuple[int, int]:
    """How many machines are silent at once, and how many of those that run are not."""
    suspects = {
        op.machine
        for op in ports.store.find(Operation, queries.open_operations_of_kind(OperationKind.FAILOVER))
        if op.suspected_at > now - AT_ONCE_SECONDS and not op.forced
    }
    # Those that are overdue and not looked into yet count too: of many that die together the first must not be moved
    # because the sweep has not come to the others.
    suspects |= {beat.machine for beat in ports.store.find(Heartbeat, queries.due(now))}
    running = {m.id for m in ports.store.find(Machine, queries.machines_in_state(MachineState.RUNNING))}
    return len(suspects), len(running - suspects)


def _failovers_at(ports: Ports, this: Operation, now: float) -> tuple[float, ...]:
    history = ports.store.find(Operation, queries.history_of_machine(this.machine))
    return tuple(
        op.created_at
        for op in history
        if op.kind is OperationKind.FAILOVER
        and op.id != this.id
        and failover.is_fenced(op)
        and op.created_at > now - DAY_SECONDS
    )


def restart_agent(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Put the agent there again and start it, over SSH: the host lives, and nothing is moved."""
    ports, began = invocation.ports, invocation.now()
    instance = ports.store.get(Instance, op.suspect_instance_id or "")
    said = ""
    try:
        if instance is not None:
            agents.push(ports, machine, instance)
    except ShellError as error:
        said = str(error)[:300]
    step = Step(name="restart agent", started_at=began, ended_at=invocation.now(), ok=not said,
                instance_id=op.suspect_instance_id, detail=said)  # fmt: skip

    def change(_tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        again_at = invocation.now() + failover.AGENT_RESTART_SECONDS
        return replace(o, tries=o.tries + 1, not_before=again_at, evidence=(), steps=(*o.steps, step))

    invocation.apply(change)
