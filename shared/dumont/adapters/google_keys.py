"""The keys that Google signs identity tokens with, as it publishes them (a JWK set, RFC 7517), kept for as long as it
says."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dumont.domain.errors import DumontError

URL = "https://www.googleapis.com/oauth2/v3/certs"
TIMEOUT_SECONDS = 5.0
KEPT_SECONDS = 3600.0
"""Where the answer does not say for how long it holds. Google's says some hours; its keys live for days."""
KEPT_SECONDS_MAX = 86_400.0
"""How long known keys serve while Google does not answer: longer than that, and one may have been taken back."""
REFRESH_SECONDS = 60.0
"""An unknown key makes us ask once in so long: whoever sends made-up key ids makes us ask no oftener."""
RETRY_SECONDS = 5.0
"""After an answer that did not come."""
BITS_MIN = 2048
_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


class KeysUnavailable(DumontError):
    """Google's keys are not to be had: whether a token is right cannot be said now."""


class GoogleKeys:
    """Key id → public key in PEM. Safe across threads; `monotonic` is a clock of seconds."""

    def __init__(self, url: str = URL, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: Mapping[str, bytes] = {}
        self._read_at = float("-inf")
        self._fresh_until = float("-inf")
        self._failed_at = float("-inf")

    def get(self, key_id: str) -> bytes | None:
        """The key, or None if Google has none of that id. Raises `KeysUnavailable`."""
        # One thread asks, and the others wait for its answer rather than ask too.
        with self._lock:
            now = self._monotonic()
            known = self._keys.get(key_id)
            if known is not None and now < self._fresh_until:
                return known
            if known is None and now < self._fresh_until and now < self._read_at + REFRESH_SECONDS:
                return None
            if now >= self._failed_at + RETRY_SECONDS and self._read(now):
                return self._keys.get(key_id)
            if known is not None and now < self._read_at + KEPT_SECONDS_MAX:
                return known
            raise KeysUnavailable("the keys of Google's signatures are not to be had")

    def _read(self, now: float) -> bool:
        """Ask Google; False if it does not answer as it should."""
        try:
            answer = httpx.get(self._url, timeout=TIMEOUT_SECONDS, follow_redirects=False)
            keys = _keys_in(answer.json()) if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError, RecursionError):
            keys = {}
        if not keys:
            self._failed_at = now
            return False
        said = _MAX_AGE.search(answer.headers.get("cache-control", ""))
        kept_seconds = min(float(said.group(1)), KEPT_SECONDS_MAX) if said else KEPT_SECONDS
        self._keys, self._read_at, self._failed_at = keys, now, float("-inf")
        self._fresh_until = now + max(kept_seconds, REFRESH_SECONDS)
        return True


def _keys_in(document: Any) -> dict[str, bytes]:
    """The RSA keys for signatures in a JWK set; what else is in it is left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found = {}
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and isinstance(one.get("kid"), str) and (pem := _pem(one)) is not None:
            found[one["kid"]] = pem
    return found


def _pem(jwk: Mapping[str, Any]) -> bytes | None:
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    try:
        public = RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        return None
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) if public.key_size >= BITS_MIN else None


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
