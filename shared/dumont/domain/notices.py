"""What a market tells us by itself, and what of it says that an instance is lost. Pure.

A notice is a hint, as any message: it may come twice, late, or never. What it says is looked into before anything is
moved; it only spares us the wait for a missed heartbeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from dumont.domain.records import Instance, InstanceState, Record

KEPT_SECONDS = 86_400.0
"""How long an event is remembered: longer than any delivery of it is tried again, and than its signature holds."""

LOSSES = {"outbid": "outbid"}
"""Kinds of notices that say that an instance is lost → our word for it. Vast.ai's guide names this one."""
_SOUNDS_LOST = ("offline", "expired", "contract_end", "terminated", "evicted")
"""Parts of kinds that it does not name and that can mean nothing else: what they say is looked into all the same."""
LOW_CREDIT = "low_credit"
_NUMBER = re.compile(r"(?<!\d)(?<!\d\.)\d{3,20}(?!\.?\d)")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice whose signature held. `kind` has no prefix ("outbid", not "client:outbid")."""

    provider: str
    event_id: str
    kind: str
    subject: str = ""
    message: str = ""
    ids: tuple[str, ...] = ()
    """The numbers in it: one of them may be an instance's."""


class WebhookEvent(Record, frozen=True, kw_only=True):
    """A notice that was dealt with: it is not dealt with again. `id` is the provider's name and its event's id."""

    collection: ClassVar[str] = "webhooks"

    provider: str
    kind: str
    received_at: float
    suspected: tuple[str, ...] = ()
    """The operations that look into what it says."""
    expires_at: float
    """When the store may forget it (TTL)."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What was made of a notice: whether it was known already, whose instances it names, what looks into them."""

    kind: str
    repeated: bool = False
    machines: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()


def loss(kind: str) -> str:
    """Our word for what a kind of notice says was lost; "" where it says nothing of that."""
    word = kind.rpartition(":")[2].strip().lower()
    if word in LOSSES:
        return LOSSES[word]
    return word[:64] if any(part in word for part in _SOUNDS_LOST) else ""


def numbers_in(*texts: str) -> tuple[str, ...]:
    """The whole numbers in texts, each once: Vast.ai's notices name instances in words alone."""
    return tuple(dict.fromkeys(found for text in texts for found in _NUMBER.findall(text[:10_000])))


def named(notice: Notice, books: Iterable[Instance]) -> list[Instance]:
    """Which of our open instances a notice names: another deployment's, or a stranger's number, is none of them."""
    ids = set(notice.ids)
    alive = [i for i in books if i.open and i.state not in (InstanceState.RELEASING, InstanceState.GONE)]
    return [i for i in alive if i.provider == notice.provider and i.provider_instance_id in ids]
