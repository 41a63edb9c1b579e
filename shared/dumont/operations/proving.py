"""Prove: what the proof over SSH showed of an instance, and the timeline's steps that it makes."""

from __future__ import annotations

from msgspec.structs import replace

from dumont.domain import tending
from dumont.domain.errors import HostKeyChanged, ShellError
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, Problem, Proof, Step
from dumont.operations.invocation import Invocation
from dumont.operations.proof import prove

SSH_RETRY_SECONDS = 1.0


def prove_instance(invocation: Invocation, machine: Machine, instance: Instance) -> None:
    """Prove an instance; SSH that does not let us in yet proves nothing until its time is up."""
    ports = invocation.ports
    assert instance.ssh is not None  # noqa: S101 - a booted instance has an endpoint
    try:
        proof = prove(ports.make_shell(), instance.ssh, instance.offer, machine.spec, clock=ports.clock, ids=ports.ids)
    except ShellError as error:
        now, said = invocation.now(), error
        invocation.record({instance.id: lambda i: _no_shell(i, machine.spec, now, said)})
        return
    now = invocation.now()
    steps = _steps_of_proof(instance, proof)
    invocation.record({instance.id: lambda i: _proved(i, proof, now)}, lambda o: replace(o, steps=o.steps + steps))


def _no_shell(instance: Instance, spec: MachineSpec, now: float, error: ShellError) -> Instance:
    if instance.state is not InstanceState.BOOTED:
        return instance
    since = instance.up_at if instance.up_at is not None else now
    if isinstance(error, HostKeyChanged) or now - since > spec.ssh_timeout_seconds:
        problem = Problem(
            code="ssh_dead", detail=f"it runs, and SSH let nobody in for {now - since:.0f} s: {error}"[:300]
        )
        return tending.reject(instance, now, problem)
    return replace(instance, next_check_at=now + SSH_RETRY_SECONDS, tries=instance.tries + 1)


def _proved(instance: Instance, proof: Proof, now: float) -> Instance:
    if instance.state is not InstanceState.BOOTED:
        return instance
    if not proof.ok:
        failed = next(c for c in proof.checks if not c.ok)
        problem = Problem(code="proof_failed", detail=f"{failed.name}: {failed.seen}"[:300])
        return tending.reject(replace(instance, proof=proof), now, problem)
    return replace(instance, state=InstanceState.PROVEN, proven_at=now, proof=proof, host_key=proof.host_key, tries=0)


def _steps_of_proof(instance: Instance, proof: Proof) -> tuple[Step, ...]:
    """The proof's checks on the timeline. "ssh" starts when the provider said that it runs: the wait is SSH's."""
    steps = []
    at = proof.started_at
    for check in proof.checks:
        began = instance.up_at if check.name == "ssh" and instance.up_at is not None else at
        at += check.seconds
        steps.append(
            Step(
                name=check.name, started_at=began, ended_at=at, ok=check.ok, instance_id=instance.id, detail=check.seen
            )
        )
    return tuple(steps)
