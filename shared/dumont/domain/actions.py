"""What an operation can do next. `decide` functions answer with one of these; `operations/` carries it out."""

from __future__ import annotations

import msgspec

from dumont.domain.offers import Offer
from dumont.domain.records import Problem


class Search(msgspec.Struct, frozen=True):
    """Ask every market for offers; not in these regions, if there are others."""

    avoid_regions: tuple[str, ...] = ()


class Rent(msgspec.Struct, frozen=True):
    """Write the intent, then make the create call, once."""

    offer: Offer


class AttachKeys(msgspec.Struct, frozen=True):
    """Let the machine's keys and ours into an instance."""

    instance_id: str


class Survey(msgspec.Struct, frozen=True):
    """List what bears this epoch's label at a provider: how boots stand, and what became of lost answers."""

    provider: str


class Prove(msgspec.Struct, frozen=True):
    """Try over SSH that an instance is what was offered."""

    instance_id: str


class Win(msgspec.Struct, frozen=True):
    """Make a proven instance the machine's current one."""

    instance_id: str


class Release(msgspec.Struct, frozen=True):
    """Destroy an instance and ask the provider whether it is gone."""

    instance_id: str


class GiveUp(msgspec.Struct, frozen=True):
    """Stop trying: release all, then fail with this problem."""

    problem: Problem


class InspectWorkspace(msgspec.Struct, frozen=True):
    """Look whether a workspace holds anything that would be lost."""

    instance_id: str


class BeginDestroy(msgspec.Struct, frozen=True):
    """Fence the machine and take over all its instances, to release them."""


class StartEngine(msgspec.Struct, frozen=True):
    """Mint a key and start the snapshot engine on the host, with its job on standard input."""


class PollEngine(msgspec.Struct, frozen=True):
    """Ask the host how far the engine is."""


class VerifySnapshot(msgspec.Struct, frozen=True):
    """Look for everything that a snapshot names in the object store's own listing."""


class CollectGarbage(msgspec.Struct, frozen=True):
    """Let go what retention lets go, and delete what no snapshot needs any more."""


class Finish(msgspec.Struct, frozen=True):
    """Nothing is left to do: end the operation, with success or with the problem that it recorded."""


class Abandon(msgspec.Struct, frozen=True):
    """Another operation took the machine over: end, and leave its instances to that one."""


class Confirm(msgspec.Struct, frozen=True):
    """Look at a suspect from every side, and write down what was seen."""


class RestartAgent(msgspec.Struct, frozen=True):
    """Start the agent of a host that answers and is silent."""

    instance_id: str


class Fence(msgspec.Struct, frozen=True):
    """Raise the epoch: from here on the suspect does not serve, and a replacement may."""

    why: str


class Try(msgspec.Struct, frozen=True):
    """Go on with this strategy."""

    strategy: str


class Look(msgspec.Struct, frozen=True):
    """Ask the provider how a lost instance is."""

    instance_id: str


class Start(msgspec.Struct, frozen=True):
    """Start a stopped instance, whose disk holds what no snapshot has."""

    instance_id: str


class Stop(msgspec.Struct, frozen=True):
    """Stop an instance, and whatever start of it is still queued: it must not bill later unseen."""

    instance_id: str


class TakeBack(msgspec.Struct, frozen=True):
    """A lost host has come back before its replacement served: let it serve again. `problem`: why a move that was asked
    for ends so."""

    instance_id: str
    problem: Problem | None = None


class Dismiss(msgspec.Struct, frozen=True):
    """Let an instance go: it is to be destroyed, until the provider says that it is gone."""

    instance_id: str


class AwaitStop(msgspec.Struct, frozen=True):
    """See whether the workload has stopped, so that the snapshot is of files at rest."""


class Pause(msgspec.Struct, frozen=True):
    """Stop the instance and keep it, or see whether it has stopped."""

    instance_id: str


class FallAsleep(msgspec.Struct, frozen=True):
    """All is saved: from here on the machine sleeps, and its instance is let go."""


class ReadLog(msgspec.Struct, frozen=True):
    """Keep the end of the workload's log, before its host goes."""


class Restore(msgspec.Struct, frozen=True):
    """Bring the snapshot onto a proven instance, or ask how far that is."""

    instance_id: str


class Settle(msgspec.Struct, frozen=True):
    """Make a ready instance the machine's spare."""

    instance_id: str


class HandOver(msgspec.Struct, frozen=True):
    """The machine is failing over: what was rented beside it races for it now."""


class Conclude(msgspec.Struct, frozen=True):
    """A rehearsal's host is as far as it goes without serving: write down what it took, and let all go."""

    instance_id: str


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do until then: end the invocation, set the deadline."""

    until: float


Action = (
    Search
    | Rent
    | AttachKeys
    | Survey
    | Prove
    | Win
    | Release
    | GiveUp
    | InspectWorkspace
    | BeginDestroy
    | StartEngine
    | PollEngine
    | VerifySnapshot
    | CollectGarbage
    | Confirm
    | RestartAgent
    | Fence
    | Try
    | Look
    | Start
    | Stop
    | TakeBack
    | AwaitStop
    | Pause
    | FallAsleep
    | ReadLog
    | Restore
    | Dismiss
    | Settle
    | HandOver
    | Conclude
    | Finish
    | Abandon
    | Wait
)
