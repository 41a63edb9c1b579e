"""Agents' tokens: who speaks, signed. Nothing is stored; each heartbeat is checked with the secret alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

PREFIX = "dag_"
CHARACTERS_MOST = 640
"""A machine's name (40), an epoch (20) and a provider's longest label (256) come to 495."""
_PURPOSE = b"dumont agent token 1\n"


class AgentIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which agent a token was made for."""

    machine: str
    epoch: int
    instance: str


def make(secret: bytes, machine: str, epoch: int, instance: str) -> str:
    """The token of one machine's agent, in one epoch, on one instance. Raises `ValueError` for what has no token."""
    if not secret:
        raise ValueError("agents' tokens need a secret")
    for text in (machine, instance):
        if not text or "\n" in text:
            raise ValueError("a machine's and an instance's name are not empty and have no line break")
    words = base64.urlsafe_b64encode(f"{machine}\n{epoch}\n{instance}".encode()).rstrip(b"=").decode()
    token = f"{PREFIX}{words}_{_signature(secret, words)}"
    if epoch < 0 or len(token) > CHARACTERS_MOST:
        raise ValueError("a token's epoch is not negative, and its names are not as long")
    return token


def read(secret: bytes, text: str) -> AgentIdentity | None:
    """Whose token this is; None if it is not one of ours. Takes as long for a wrong signature as for a right one."""
    if not secret or len(text) > CHARACTERS_MOST or not text.isascii() or not text.startswith(PREFIX):
        return None
    words, _, signature = text[len(PREFIX) :].rpartition("_")
    if not hmac.compare_digest(signature, _signature(secret, words)):
        return None
    try:
        content = base64.b64decode(words + "=" * (-len(words) % 4), altchars=b"-_", validate=True).decode()
        machine, epoch, instance = content.split("\n")
        return AgentIdentity(machine=machine, epoch=int(epoch), instance=instance)
    except (binascii.Error, ValueError):
        return None  # signed with our secret, but by a version that wrote something else


def _signature(secret: bytes, words: str) -> str:
    return hmac.new(secret, _PURPOSE + words.encode(), hashlib.sha256).hexdigest()
