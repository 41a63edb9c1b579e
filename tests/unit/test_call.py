"""What a handler reads of a request, however it was sent."""

from __future__ import annotations

import io

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from dumont.adapters.clock import SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import InvalidInput, TooLarge, Unauthenticated
from dumont.domain.records import Role
from dumont.edge import key_views, keys
from dumont.edge.http import ANYBODY, BODY_BYTES_MAX, Call
from dumont.edge.key_views import RotateKey
from tests.unit.rest_support import ManualClock, make_ports

SENT: list[dict[str, object] | None] = [{"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, None]
"""In chunks, and so without a length; with one."""


def call_of(body: bytes, environment: dict[str, object] | None) -> Call:
    length = environment or {"CONTENT_LENGTH": str(len(body))}
    request = Request(EnvironBuilder(method="POST", input_stream=io.BytesIO(body)).get_environ() | length)
    return Call(request=request, ports=make_ports(MemoryStore(), ManualClock(0.0)), key=ANYBODY, request_id="req-1")


@pytest.mark.parametrize("environment", SENT, ids=["in chunks", "with a length"])
def test_a_body_that_may_be_absent_is_read_if_it_is_there(environment: dict[str, object] | None) -> None:
    assert call_of(b'{"grace_seconds": 0}', environment).body_or(RotateKey()) == RotateKey(grace_seconds=0.0)
    assert call_of(b"", environment).body_or(RotateKey()) == RotateKey()
    with pytest.raises(InvalidInput, match="unknown field"):
        call_of(b'{"grace": 0}', environment).body_or(RotateKey())
    with pytest.raises(TooLarge):
        call_of(b" " * (BODY_BYTES_MAX + 1), environment).body_or(RotateKey())


@pytest.mark.parametrize("environment", SENT, ids=["in chunks", "with a length"])
def test_a_secret_that_is_to_end_at_once_does(environment: dict[str, object] | None) -> None:
    clock, store = ManualClock(1_800_000_000.0), MemoryStore()
    ports = make_ports(store, clock)
    old = keys.make(store, SystemIds(), clock, name="ci", role=Role.OPERATOR)
    admin = keys.authenticate(ports, keys.make(store, SystemIds(), clock, name="admin", role=Role.ADMIN))
    request = call_of(b'{"grace_seconds": 0}', environment).request
    key_views.rotated(Call(request=request, ports=ports, key=admin, request_id="req-1"), old.split("_")[1])
    with pytest.raises(Unauthenticated):
        keys.authenticate(ports, old)
