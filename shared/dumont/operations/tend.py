"""Actions on instances that every operation shares: survey, attach keys, release."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import meter, tending
from dumont.domain.actions import AttachKeys, Dismiss, Release, Survey
from dumont.domain.errors import NotFound, ProviderError, RateLimited
from dumont.domain.names import label_prefix
from dumont.domain.reaping import held_by
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, Operation, Problem, Step
from dumont.domain.statuses import InstanceStatus
from dumont.operations.invocation import Fact, Invocation
from dumont.ports import Provider, ProviderInstance, Transaction

log = logging.getLogger(__name__)

LEFT = Problem(code="left_over", detail="its machine goes on without it")


def postponed(error: ProviderError, now: float) -> Fact:
    """The fact that a provider did not answer: nothing is known of the instance but that we try again later."""

    def fact(instance: Instance) -> Instance:
        wait = error.retry_after_seconds if isinstance(error, RateLimited) else tending.backoff_seconds(instance.tries)
        return replace(instance, next_check_at=now + wait, tries=instance.tries + 1)

    return fact


def survey(
    invocation: Invocation, machine_name: str, spec: MachineSpec, instances: Sequence[Instance], action: Survey
) -> None:
    """List what bears the machine's labels and learn from it how each instance of ours stands.

    One call for all racers (markets limit calls per endpoint). An instance that the list leaves out is not gone: lists
    lag; only `get` answering `NotFound` says so.
    """
    provider = invocation.ports.providers[action.provider]
    watched = [
        i
        for i in instances
        if i.provider == action.provider
        and (i.state is InstanceState.CREATED or (i.open and i.provider_instance_id is None))
    ]
    facts: dict[str, Fact] = {}
    found: list[Instance] = []
    try:
        listed = provider.list(f"{label_prefix(invocation.ports.deployment)}{machine_name}.")
    except ProviderError as error:
        log.info("survey failed", extra={"provider": provider.name, "error": str(error)})
        facts = {i.id: postponed(error, invocation.now()) for i in watched}
    else:
        by_label = {seen.label: seen for seen in listed}
        by_id = {seen.id: seen for seen in listed}
        for instance in watched:
            seen = by_id.get(instance.provider_instance_id or "") or by_label.get(instance.id)
            facts[instance.id] = _fact_of(invocation, provider, instance, seen, spec)
            if seen is not None and instance.provider_instance_id is None:
                found.append(instance)
    invocation.record(facts, lambda op: _with_rents(op, found, invocation.now()))


def _with_rents(op: Operation, found: Sequence[Instance], now: float) -> Operation:
    """Whoever made the call died before its answer, or never heard it: the timeline has it all the same."""
    told = {step.instance_id for step in op.steps if step.name == "rent" and step.ok}
    steps = [
        Step(name="rent", started_at=i.intended_at, ended_at=now, instance_id=i.id,
             detail=f"offer {i.offer.id}, found by its label: the call's answer was lost")
        for i in found if i.id not in told
    ]  # fmt: skip
    return replace(op, steps=(*op.steps, *steps))


def _fact_of(
    invocation: Invocation, provider: Provider, instance: Instance, seen: ProviderInstance | None, spec: MachineSpec
) -> Fact:
    now = invocation.now()
    if instance.provider_instance_id is None:
        if seen is None:
            return lambda i: tending.missing_by_label(i, now) if i.open and i.provider_instance_id is None else i
        found = seen
        return lambda i: tending.found_by_label(i, found, now) if i.provider_instance_id is None else i
    if seen is None:
        try:
            seen = provider.get(instance.provider_instance_id)
        except NotFound:
            problem = tending.vanished()
            return lambda i: replace(tending.gone(i, now), problem=i.problem or problem)
        except ProviderError as error:
            return postponed(error, now)
    word = seen
    return lambda i: tending.looked_at(i, word, spec, now) if i.state is InstanceState.CREATED else i


def attach_keys(invocation: Invocation, spec: MachineSpec, instance: Instance, action: AttachKeys) -> None:
    """Let our key and the user's in. Each attach is idempotent, so a death half-way costs only a repetition."""
    provider = invocation.ports.providers[instance.provider]
    assert instance.provider_instance_id is not None  # noqa: S101 - decide asks only for created instances
    try:
        for key in (invocation.ports.make_shell().public_key, *spec.ssh_public_keys):
            provider.attach_ssh_key(instance.provider_instance_id, key)
    except NotFound:
        now = invocation.now()
        problem = tending.vanished()
        invocation.record({action.instance_id: lambda i: replace(tending.gone(i, now), problem=i.problem or problem)})
    except ProviderError as error:
        invocation.record({action.instance_id: postponed(error, invocation.now())})
    else:
        now = invocation.now()
        invocation.record({action.instance_id: lambda i: replace(i, keys_attached=True, tries=0, next_check_at=now)})


def dismiss(invocation: Invocation, op: Operation, action: Dismiss) -> None:
    """Let an instance go that is this operation's, and that no machine holds."""

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        instance = tx.get(Instance, action.instance_id)
        held = held_by(machine) if machine is not None else frozenset()
        if instance is not None and instance.operation_id == op.id and instance.id not in held:
            tx.put(tending.dismiss(instance, invocation.now(), LEFT))
        return o

    invocation.apply(change)


def release(invocation: Invocation, instance: Instance, action: Release) -> None:
    """Ask for an instance's destruction, then ask whether it is gone; until the provider says so, try again later."""
    provider = invocation.ports.providers[instance.provider]
    assert instance.provider_instance_id is not None  # noqa: S101 - decide asks only where the id is known
    try:
        provider.destroy(instance.provider_instance_id)
        status = provider.get(instance.provider_instance_id).status
    except NotFound:
        now = invocation.now()
        invocation.record({action.instance_id: lambda i: tending.gone(i, now)})
    except ProviderError as error:
        log.warning("release failed", extra={"instance": instance.id, "error": str(error)})
        invocation.record({action.instance_id: postponed(error, invocation.now())})
    else:
        now = invocation.now()
        invocation.record({action.instance_id: lambda i: _still_there(i, status, now)})


def _still_there(instance: Instance, status: InstanceStatus, now: float) -> Instance:
    wait = tending.backoff_seconds(instance.tries)
    billed = meter.billed_as(status)
    seen = meter.saw(instance, billed, now) if billed is not None else instance
    return replace(seen, next_check_at=now + wait, tries=instance.tries + 1)
