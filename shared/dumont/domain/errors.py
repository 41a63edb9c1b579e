"""The errors that callers can act on, by type.

`ProviderError` and its kinds decide policy in the operations: the *type* says whether a call had an effect, whether
to try again, and with whom. `UserError` and its kinds become RFC 9457 problem documents at the edge.
"""

from __future__ import annotations

from collections.abc import Iterable


class DumontError(Exception):
    """Everything that Dumont raises on purpose."""


# --- What a provider (a GPU market) can answer --------------------------------------------------------------------


class ProviderError(DumontError):
    """A provider did not do what was asked. `provider` names it; the message carries no secret."""

    def __init__(self, message: str, *, provider: str = "") -> None:
        super().__init__(message)
        self.provider = provider


class OfferGone(ProviderError):
    """The offer was taken, or withdrawn, before we rented it. Nothing was rented. Normal in a race."""


class OutOfCredit(ProviderError):
    """The account cannot pay, or is held to a spending rate. Nothing was rented; trying again does not help."""


class RateLimited(ProviderError):
    """Refused for being too frequent; nothing was done. `retry_after_seconds` is when to try again."""

    def __init__(self, message: str, *, provider: str = "", retry_after_seconds: float = 5.0) -> None:
        super().__init__(message, provider=provider)
        self.retry_after_seconds = retry_after_seconds


class AuthError(ProviderError):
    """The provider refused our credentials, or their scope. Nothing was done."""


class NotFound(ProviderError):
    """The provider says that this instance does not exist: the only proof that it is gone (invariant 3)."""


class BidTooLow(ProviderError):
    """The bid lost at once. `provider_instance_id` is set where a stopped instance exists, and bills, all the same."""

    def __init__(self, message: str, *, provider: str = "", provider_instance_id: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.provider_instance_id = provider_instance_id


class StartRefused(ProviderError):
    """A stopped instance could not start: its GPU is taken. The provider may have queued it: send stop to cancel."""


class InvalidRequest(ProviderError):
    """The provider refused the request itself (4xx). Nothing was done; the same request will fail again."""


class ProviderDown(ProviderError):
    """No answer, or one that cannot be read. For a call with an effect, **the outcome is unknown**."""


# --- What a shell (SSH) can answer --------------------------------------------------------------------------------


class ShellError(DumontError):
    """A command could not be run on a machine."""


class ShellUnreachable(ShellError):
    """No SSH connection: refused, timed out, or broken off. The machine may be booting, cut off, or dead."""


class ShellRefused(ShellError):
    """SSH answered and refused our key. While a machine boots, keys may not be in place yet."""


class HostKeyChanged(ShellError):
    """The host shows another key than the one pinned at its first proof: someone else may be answering."""


# --- What the store can answer ------------------------------------------------------------------------------------


class StoreError(DumontError):
    """The store did not do what was asked."""


class Contention(StoreError):
    """A transaction lost against others more often than it may be tried. Nothing was written."""


class StoreUnavailable(StoreError):
    """The store did not answer. For a commit, **the outcome is unknown**."""


class RecordTooNew(StoreError):
    """A later version of Dumont wrote the record, in a shape that this one cannot read, and will deal with it."""


class BusUnavailable(DumontError):
    """A message may not have been published. Never an end: the sweep finds what it was about by its deadline."""


class NotTold(DumontError):
    """A message did not reach a chat now, and may later. `may_be_there`: its answer was lost, or cannot be read."""

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0, may_be_there: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.may_be_there = may_be_there


class NotTellable(DumontError):
    """A chat refuses the message, its address or our credentials: trying again does not help."""


class NotDelivered(DumontError):
    """A webhook has no answer: its name leads nowhere, or its receiver did not answer as HTTP does, or not in time."""


# --- What is the caller's to mend ---------------------------------------------------------------------------------


class UserError(DumontError):
    """What a user can mend. `code` is stable and for programs; `field` names the input at fault, if one is."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint
        if code is not None:
            self.code = code


class InvalidInput(UserError):
    """A value that is malformed or out of range; nothing was changed."""

    status = 400
    code = "invalid_input"


class Unauthenticated(UserError):
    """No key, or a wrong one."""

    status = 401
    code = "unauthenticated"


class Forbidden(UserError):
    """The key is right and its role does not reach this far."""

    status = 403
    code = "forbidden"


class Unknown(UserError):
    """No such machine, operation, …"""

    status = 404
    code = "not_found"


class MethodNotAllowed(UserError):
    """The path exists and not for this method; `allowed` are those that it is answered to."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(f"{method} is not answered here", hint=f"use {' or '.join(self.allowed)}")


class Conflict(UserError):
    """The state does not allow it: a name taken, an operation under way."""

    status = 409
    code = "conflict"


class BudgetReached(Conflict):
    """A budget that forbids it is spent: nothing new is rented."""

    status = 402
    code = "budget_reached"


class TooLarge(UserError):
    """The request's body is larger than is read."""

    status = 413
    code = "too_large"


class IllegalTransition(DumontError):
    """A state may not follow another: a defect of ours, never the user's."""


# --- What an object store can answer ------------------------------------------------------------------------------


class BlobError(DumontError):
    """An object store did not do what was asked. The message carries no secret."""


class BlobNotFound(BlobError):
    """The store says that there is no such object, or none that can be seen under that name."""


class BlobUnavailable(BlobError):
    """No answer in time, an error of the store's own, or too many requests. For what writes or deletes, **the outcome
    is unknown**; asking again does no harm, and goes on with what is left.
    """


class BlobRefused(BlobError):
    """The store refused our credentials, their scope, or the request itself. The same will be refused again."""


class BlobTooLarge(BlobError):
    """The object is larger than the caller takes. Nothing of it was handed on."""


class BlobDamaged(BlobError):
    """What came is not what the store says that it keeps: another length or checksum. Nothing of it was handed on."""


# --- What a DNS provider or a scheduler can answer ----------------------------------------------------------------


class DnsError(DumontError):
    """A DNS provider did not do what was asked. The message carries no secret."""


class DnsUnavailable(DnsError):
    """No usable answer in time. **The outcome is unknown**; asking again does no harm."""


class DnsRefused(DnsError):
    """The provider refused our credentials, the zone, or the record itself. The same will be refused again."""


class ScheduleError(DumontError):
    """The scheduler did not do what was asked; `ScheduleUnavailable` where that is unknown."""


class ScheduleUnavailable(ScheduleError):
    """No answer in time. **The outcome is unknown**; asking again does no harm."""
