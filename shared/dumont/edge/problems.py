"""Errors at the edge: problem documents (RFC 9457), never a bare traceback."""

from __future__ import annotations

import msgspec

from dumont.domain.errors import (
    AuthError,
    Contention,
    DumontError,
    NotFound,
    OutOfCredit,
    ProviderError,
    RateLimited,
    RecordTooNew,
    StoreError,
    UserError,
)

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "Bad request", 401: "Not authenticated", 402: "Budget spent", 403: "Not allowed",
    404: "Not found", 405: "Method not allowed",
    409: "Conflict", 413: "Too large", 429: "Too many requests", 500: "Internal error", 502: "A market refused",
    503: "Not available",
}  # fmt: skip


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457, with `code` for programs, the `field` at fault, and a `hint` of what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    hint: str = ""
    request_id: str = ""


def _document(status: int, code: str, detail: str, *, field: str | None = None, hint: str = "") -> ProblemDocument:
    return ProblemDocument(
        type=f"about:blank#{code}",
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        field=field,
        hint=hint,
    )


def document_of(error: Exception) -> ProblemDocument:
    """The problem document of an error. What is not ours to explain says nothing of its inside."""
    if isinstance(error, UserError):
        return _document(error.status, error.code, str(error), field=error.field, hint=error.hint)
    if isinstance(error, RateLimited):
        return _document(503, "market_busy", f"the market asks us to slow down: {error}", hint="try again shortly")
    if isinstance(error, AuthError):
        return _document(502, "market_refused", f"the market refused our key: {error}", hint="check VAST_API_KEY")
    if isinstance(error, OutOfCredit):
        return _document(502, "out_of_credit", str(error), hint="add credit at the market, then try again")
    if isinstance(error, NotFound):
        return _document(404, "not_found", str(error))
    if isinstance(error, ProviderError):
        return _document(
            503,
            "market_down",
            f"the market does not answer as it should: {error}",
            hint="nothing was changed; try again in a minute",
        )
    if isinstance(error, Contention):
        return _document(503, "busy", "others were writing at the same time; nothing was changed", hint="try again")
    if isinstance(error, RecordTooNew):
        return _document(503, "newer_record", "a later version of Dumont wrote this", hint="try again in a minute")
    if isinstance(error, StoreError):
        return _document(503, "store_down", "the store does not answer", hint="try again in a minute")
    if isinstance(error, DumontError):
        return _document(500, "internal", str(error))
    return _document(
        500,
        "internal",
        "something went wrong inside Dumont; what it was is in the log under this request's id",
        hint="try again; what was under way is carried on by itself",
    )
