"""A market's notices: whose word they are, how old, what they name."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import notices
from dumont.domain.errors import InvalidInput, Unauthenticated
from dumont.edge.webhooks import AGE_SECONDS_MAX, read, signature

SECRET = "a secret of 64 random characters"
NOW = 1_760_000_000.0
BODY = json.dumps(
    {
        "event_id": "0b6f-1",
        "user_id": 4711,
        "notif_type": "client:outbid",
        "subject": "Instance 20000017 was outbid",
        "message": "It was stopped at 12.50 on 2025-10-09.",
        "timestamp": int(NOW),
    }
).encode()


def headers(body: bytes = BODY, *, at: str = str(int(NOW)), secret: str = SECRET) -> dict[str, str]:
    return {"x-vast-timestamp": at, "x-vast-signature-256": signature(secret, at, body), "x-vast-event-id": "other"}


def test_a_signed_notice_is_read() -> None:
    notice = read(SECRET, headers(), BODY, NOW + 1)
    assert (notice.kind, notice.event_id) == ("outbid", "0b6f-1"), "what is signed comes before a header that is not"
    assert "20000017" in notice.ids
    assert "4711" not in notice.ids


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"20000017", b"20000018"), b""])
def test_a_body_that_was_changed_is_refused(body: bytes) -> None:
    with pytest.raises(Unauthenticated):
        read(SECRET, headers(), body, NOW)


def test_another_secret_no_secret_and_no_signature_are_refused() -> None:
    with pytest.raises(Unauthenticated):
        read(SECRET, headers(secret="another"), BODY, NOW)
    with pytest.raises(Unauthenticated):
        read("", headers(secret=""), BODY, NOW)
    with pytest.raises(Unauthenticated):
        read(SECRET, {}, BODY, NOW)
    with pytest.raises(Unauthenticated):
        read(SECRET, {**headers(), "x-vast-signature-256": "sha256=\u00e9"}, BODY, NOW)


def test_a_replay_with_a_fresh_timestamp_is_refused_since_that_is_signed_too() -> None:
    later = NOW + 4000
    with pytest.raises(Unauthenticated):
        read(SECRET, {**headers(), "x-vast-timestamp": str(int(later))}, BODY, later)


@pytest.mark.parametrize("age", [AGE_SECONDS_MAX + 1, -AGE_SECONDS_MAX - 1, float("inf")])
def test_an_old_one_and_one_from_the_future_are_refused(age: float) -> None:
    with pytest.raises(Unauthenticated):
        read(SECRET, headers(), BODY, NOW + age)


@pytest.mark.parametrize("at", ["", "now", "nan", "inf"])
def test_a_timestamp_that_is_none_is_refused_though_signed(at: str) -> None:
    with pytest.raises(Unauthenticated):
        read(SECRET, headers(at=at), BODY, NOW)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"event_id": {}}', b'{"event_id": "a/b"}', b"[" * 100_000])
def test_signed_nonsense_is_refused_as_such(body: bytes) -> None:
    sent = headers(body)
    del sent["x-vast-event-id"]
    with pytest.raises(InvalidInput):
        read(SECRET, sent, body, NOW)


@given(body=st.binary(max_size=300))
def test_whatever_is_signed_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        read(SECRET, headers(body), body, NOW)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("outbid", "outbid"),
        ("client:outbid", "outbid"),
        ("host_offline", "host_offline"),
        ("contract_expired", "contract_expired"),
        ("low_credit", ""),
        ("instance_created", ""),
        ("", ""),
    ],
)
def test_only_what_says_so_is_a_loss(kind: str, why: str) -> None:
    assert notices.loss(kind) == why


def test_numbers_are_whole_and_each_counts_once() -> None:
    said = "Instance 20000017 (20000017), C.20000018, at $0.4123, 12 h, 1500.25 GB."
    assert notices.numbers_in(said) == ("20000017", "20000018")
