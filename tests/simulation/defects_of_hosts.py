"""Defects of serving, and of what providers and hosts are believed: see `defects`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from dumont.adapters.vast import Vast
from dumont.agent.host.mandate import Mandate
from dumont.domain import detection, failover, heartbeats, tending
from dumont.domain import idle as idle_rule
from dumont.domain.detection import Finding, Verdict
from dumont.domain.errors import NotFound, ProviderError
from dumont.domain.idle import Signal
from dumont.domain.names import instance_label, label_prefix
from dumont.domain.records import Instance, InstanceState, MachineState
from dumont.operations import agents, comebacks, confirming, reap, renting, spares, tend, unsaved_work
from dumont.operations import failover as failovers
from dumont.operations.invocation import Invocation
from dumont.ports import Rental
from tests.simulation.patches import Made, Patch, answering, wrapped

_UP = (MachineState.RUNNING, MachineState.FAILING_OVER)


def no_fencing() -> Made:
    """Whoever bears the machine's token is told to serve, of whatever epoch: the old host is not refused."""
    return ["1"], [Patch(heartbeats, "serves", lambda machine, _instance: machine is not None and machine.state in _UP)]


def epoch_not_raised() -> Made:
    """A failover leaves the epoch as it is: what the old host writes cannot be told from the new one's."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def applied(self: Invocation, change: Callable[..., Any]) -> Any:
            def unraised(tx: Any, op: Any, machine: Any) -> Any:
                before = op.epoch
                after = change(tx, op, machine)
                fenced = failover.is_fenced(after) and not failover.is_fenced(op) and machine is not None
                if not fenced or op.kind.value != "failover" or after.epoch == before:
                    return after
                tx.put(replace(tx.get(type(machine), machine.id), epoch=before))
                return replace(after, epoch=before)

            return real(self, unraised)

        return applied

    return ["1"], [wrapped(Invocation, "apply", around)]


def no_lease_wait() -> Made:
    """A replacement serves as soon as it is ready, while the old host's lease may still run."""
    return ["1"], [answering(failovers, "_serve_not_before", 0.0)]


def agent_keeps_no_lease() -> Made:
    """An agent that hears nothing goes on for twice its lease before it stops the workload."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def hear(self: Mandate, answer: Any, sent_at: float) -> None:
            real(self, dataclass_replace(answer, lease_seconds=2 * answer.lease_seconds), sent_at)

        return hear

    return ["1"], [wrapped(Mandate, "hear", around)]


def stopped_host_taken_back() -> Made:
    """A heartbeat that was on its way is taken for a return of the host that we, or its provider, have stopped."""
    return ["7", "1"], [Patch(failover, "_has_returned", lambda lost: lost.returned_at is not None)]


# --- What is believed ---------------------------------------------------------------------------------------------


def one_signal_is_death() -> Made:
    """A missed heartbeat is enough: no second signal is asked for."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def judge(evidence: Any, suspected_at: float) -> Finding:
            finding: Finding = real(evidence, suspected_at)
            sure = finding.verdict not in (Verdict.UNSURE, Verdict.AGENT_DEAD) or not evidence
            return finding if sure else Finding(Verdict.DEAD, "no heartbeat")

        return judge

    return ["6"], [wrapped(detection, "judge", around)]


def outage_taken_for_death() -> Made:
    """A provider that does not answer is taken to say that the instance is gone."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def word(ports: Any, instance: Any) -> Any:
            said = real(ports, instance)
            return "gone" if said == "unknown" and instance is not None else said

        return word

    return ["6", "1", "4"], [wrapped(confirming, "_provider_word", around)]


def unreadable_taken_for_gone() -> Made:
    """An answer about one instance that cannot be read is taken for its absence."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def get(self: Vast, instance_id: str) -> Any:
            try:
                return real(self, instance_id)
            except NotFound:
                raise
            except ProviderError as error:
                raise NotFound(str(error)) from error

        return get

    return ["3", "6"], [wrapped(Vast, "get", around)]


def reaper_believes_lists() -> Made:
    """The reaper strikes off whatever a list leaves out, and takes one that it cannot read for an empty one."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def reap_all(ports: Any) -> list[str]:
            for provider in ports.providers.values():
                try:
                    listed = {seen.id for seen in provider.list(label_prefix(ports.deployment))}
                except ProviderError:
                    listed = set()
                now = ports.clock.now()
                for known in reap._books(ports).values():
                    if known.provider_instance_id not in listed | {None}:
                        ports.store.transact(lambda tx, i=known, now=now: _strike_off(tx, i, now))
            return list(real(ports))

        return reap_all

    from dumont.operations import sweep

    return ["3"], [wrapped(sweep, "reap", around)]


def _strike_off(tx: Any, known: Instance, now: float) -> None:
    fresh = tx.get(Instance, known.id)
    if fresh is not None and fresh.open:
        tx.put(tending.gone(fresh, now))


def survey_believes_lists() -> Made:
    """An instance that a list leaves out is gone, without asking for it by its id: lists lag."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def fact_of(invocation: Any, provider: Any, instance: Any, seen: Any, spec: Any) -> Any:
            if seen is None and instance.provider_instance_id is not None:
                now = invocation.now()
                return lambda i: tending.gone(i, now)
            return real(invocation, provider, instance, seen, spec)

        return fact_of

    return ["3"], [wrapped(tend, "_fact_of", around)]


def releasing_taken_for_gone() -> Made:
    """Once a destroy call was answered the instance is off the books: nobody asks whether it is gone."""

    def still_there(instance: Instance, _status: Any, now: float) -> Instance:
        return tending.gone(instance, now)

    return ["3"], [Patch(tend, "_still_there", still_there)]


def unknown_taken_for_idle() -> Made:
    """A gauge that cannot be read counts as quiet."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def signal(*args: Any, **kwargs: Any) -> Signal:
            read: Signal = real(*args, **kwargs)
            return replace(read, state="quiet") if read.state == "unknown" else read

        return signal

    return ["6"], [wrapped(idle_rule, "_signal", around)]


def unreadable_workspace_taken_for_empty() -> Made:
    """A workspace that cannot be looked into is taken for one that holds nothing."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def files(ports: Any, machine: Any, path: str) -> list[str]:
            from dumont.domain.errors import ShellError

            try:
                return list(real(ports, machine, path))
            except ShellError:
                return []

        return files

    return ["4"], [wrapped(unsaved_work, "_files", around)]


# --- Renting ------------------------------------------------------------------------------------------------------


def created_before_intent() -> Made:
    """The create call comes first, and its record afterwards."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def rent(invocation: Invocation, op: Any, machine: Any, action: Any) -> None:
            ports, name = invocation.ports, invocation.ports.ids.new("i")
            label = instance_label(ports.deployment, machine.id, op.epoch, name.removeprefix("i-"))
            provider = ports.providers[action.offer.provider]
            rental = Rental(
                label=label, image=machine.spec.image, disk_gb=machine.spec.disk_gb,
                bid_usd_per_hour=action.offer.gpu_usd_per_hour if machine.spec.interruptible else None,
                on_start=agents.on_start(ports, machine.id, op.epoch, label, machine.spec),
            )  # fmt: skip
            done: str | ProviderError
            try:
                done = provider.create(action.offer, rental)
            except ProviderError as error:
                done = error
            late = dataclass_replace(
                ports, ids=_Said(name, ports.ids), providers={action.offer.provider: _Made(provider, done)}
            )
            real(dataclass_replace(invocation, ports=late), op, machine, action)

        return rent

    from dumont.operations import provision

    return ["2"], [wrapped(provision, "rent", around)]


class _Said:
    def __init__(self, name: str, ids: Any) -> None:
        self._name, self._ids = name, ids

    def new(self, prefix: str) -> Any:
        return self._name if prefix == "i" else self._ids.new(prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ids, name)


class _Made:
    def __init__(self, provider: Any, done: str | ProviderError) -> None:
        self._provider, self._done = provider, done

    def create(self, _offer: Any, _rental: Any) -> str:
        if isinstance(self._done, ProviderError):
            raise self._done
        return self._done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def dataclass_replace(value: Any, **changes: Any) -> Any:
    """`dataclasses.replace`, by another name than the one for records."""
    import dataclasses

    return dataclasses.replace(value, **changes)


def create_repeated() -> Made:
    """A create call whose answer was lost is made again: the offer that the first took is refused to the second."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def create(self: Vast, offer: Any, rental: Any) -> str:
            from dumont.domain.errors import ProviderDown

            try:
                return str(real(self, offer, rental))
            except ProviderDown:
                return str(real(self, offer, rental))

        return create

    return ["2", "3"], [wrapped(Vast, "create", around)]


def lost_answer_taken_for_refusal() -> Made:
    """A create call without an answer is taken to have had no effect, and another offer is rented."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def refused(invocation: Any, label: str, offer_id: str, began: float, error: Any, action: Any) -> None:
            from dumont.domain.errors import OfferGone, ProviderDown

            if isinstance(error, ProviderDown):
                error = OfferGone(str(error))
            real(invocation, label, offer_id, began, error, action)

        return refused

    return ["3"], [wrapped(renting, "_rent_refused", around)]


# --- Spares -------------------------------------------------------------------------------------------------------


def spare_never_handed_over() -> Made:
    """A spare is not given to the failover of its machine, and nobody lets it go."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def dismiss(instance: Instance, now: float, problem: Any) -> Instance:
            if instance.standby and instance.state is not InstanceState.RELEASING:
                return instance
            return real(instance, now, problem)  # type: ignore[no-any-return]

        return dismiss

    return ["2", "7"], [answering(spares, "join", None), wrapped(tending, "dismiss", around)]


def start_not_cancelled() -> Made:
    """A start that was refused, or took too long, is not cancelled: it may run, and bill, later."""
    return ["10", "2", "7", "8"], [answering(comebacks, "_cancel", True)]


DEFECTS: tuple[Callable[[], Made], ...] = (
    no_fencing, epoch_not_raised, no_lease_wait, agent_keeps_no_lease, stopped_host_taken_back, one_signal_is_death,
    outage_taken_for_death, unreadable_taken_for_gone, reaper_believes_lists, survey_believes_lists,
    releasing_taken_for_gone, unknown_taken_for_idle, unreadable_workspace_taken_for_empty, created_before_intent,
    create_repeated, lost_answer_taken_for_refusal, spare_never_handed_over, start_not_cancelled,
)  # fmt: skip
"""In the order of the table."""
