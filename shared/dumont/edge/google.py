"""Who calls from within Google: Pub/Sub's pushes and Cloud Scheduler's calls bear an identity token (OIDC) of the one
account that this deployment has for them.

Where Google's front door has checked the token (IAM: the function is not open to all), it takes the signature away
before it hands the request on, and puts `SIGNATURE_REMOVED_BY_GOOGLE` in its place
(https://cloud.google.com/run/docs/troubleshooting#signature-removed). Such a token is believed only where
the settings say that this door is there (`DUMONT_CALLER_CHECKED=iam`), and what it says is looked at all the same.

Of google-auth it is the signature's check that is used, and not `google.auth.jwt.decode`: that one lets a token choose
among algorithms, knows no tokens without their signature, and puts tokens into its errors' words.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Request

from dumont.domain.errors import Unauthenticated, UserError
from dumont.edge import jws
from dumont.edge.jws import Jws

if TYPE_CHECKING:
    from dumont.adapters.google_keys import GoogleKeys

log = logging.getLogger(__name__)

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
ALGORITHM = "RS256"
LEEWAY_SECONDS = 30
"""How far Google's clock and ours may be apart."""
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


class CannotTell(UserError):
    """Whether the token is right cannot be said now. Not the caller's fault, so not a 401: Pub/Sub and people alike are
    to try again, and a log of refusals is to hold refusals only."""

    status = 503
    code = "keys_unavailable"


class GoogleCaller:
    """Checks tokens. `caller` is the account's e-mail address, `audience` what its tokens for this function name.

    `behind_iam`: nothing reaches this process that Google's front door has not checked.
    """

    def __init__(
        self,
        *,
        make_keys: Callable[[], GoogleKeys],
        caller: str,
        audience: str,
        behind_iam: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._make_keys = make_keys
        self._caller = caller
        self._audience = audience
        self._behind_iam = behind_iam
        self._clock = clock

    def check(self, request: Request) -> None:
        """Raises `Unauthenticated` unless the request bears the account's token, `CannotTell` where Google's keys are
        not to be had. The caller learns no more; the log has why, and nothing of the token."""
        fault = self._fault(bearer(request))
        if fault:
            log.warning("not Google's caller", extra={"why": fault, "path": request.path[:200]})
            raise Unauthenticated("this needs the token of this deployment's caller, and there is none that holds")

    def _fault(self, token: str) -> str:
        """What is wrong with a token, in words without any of it; "" if nothing is."""
        if not token:
            return "no token"
        read = jws.read(token)
        if read is None:
            return "not a token"
        # Ours alone to choose: a token that could name its own algorithm could be signed with the public key as a
        # secret, or not at all.
        if read.header.get("alg") != ALGORITHM:
            return "another algorithm"
        if read.signature == REMOVED:
            if not self._behind_iam:
                return "no signature"
        elif not self._signed(read):
            return "a wrong signature"
        return self._claims_fault(read.claims)

    def _signed(self, read: Jws) -> bool:
        # Google's client of the store has imported them already; the local cloud needs neither.
        from google.auth import crypt

        from dumont.adapters.google_keys import KeysUnavailable

        key_id = read.header.get("kid")
        if not isinstance(key_id, str):
            return False
        try:
            key = self._make_keys().get(key_id)
        except KeysUnavailable as error:
            log.warning("Google's keys are not to be had")
            raise CannotTell("whether the token holds cannot be said now", hint="try again in a minute") from error
        if key is None:
            return False
        raw = jws.decoded(read.signature)
        return raw is not None and bool(crypt.verify_signature(read.signed, raw, key))  # type: ignore[no-untyped-call]

    def _claims_fault(self, claims: Mapping[str, Any]) -> str:
        now = self._clock()
        issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
        if issued is None or expires is None:
            return "no times"
        if not expires + LEEWAY_SECONDS > now:
            return "expired"
        if not issued - LEEWAY_SECONDS <= now:
            return "of the future"
        if claims.get("iss") not in ISSUERS:
            return "another issuer"
        if claims.get("aud") != self._audience:
            return "for another function"
        if claims.get("email") != self._caller or claims.get("email_verified") is not True:
            return "another account"
        return ""


def bearer(request: Request) -> str:
    """The token in a request's `Authorization`; "" if there is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
