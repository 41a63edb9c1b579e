"""Who calls from within Google, by tokens that are really signed, against a real server that publishes the keys."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from flask import Request
from werkzeug.test import EnvironBuilder

from dumont.adapters.google_keys import (
    KEPT_SECONDS_MAX,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    GoogleKeys,
    KeysUnavailable,
)
from dumont.domain.errors import Unauthenticated
from dumont.edge.google import LEEWAY_SECONDS, CannotTell, GoogleCaller
from dumont.edge.problems import document_of
from tests.contract.google_tokens import AUDIENCE, CALLER, PATH, Google, encoded, jwk_of, segment
from tests.contract.scripted_http import Said, ScriptedServer, said


class Moment:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def private() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def google(private: RSAPrivateKey) -> Google:
    return Google(private)


@pytest.fixture
def server(google: Google) -> Iterator[ScriptedServer]:
    with ScriptedServer(google) as server:
        yield server


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def keys(server: ScriptedServer, moment: Moment) -> GoogleKeys:
    return GoogleKeys(server.url + PATH, monotonic=moment)


@pytest.fixture
def caller(keys: GoogleKeys) -> GoogleCaller:
    return GoogleCaller(make_keys=lambda: keys, caller=CALLER, audience=AUDIENCE)


def bearing(token: str | None) -> Request:
    headers = [] if token is None else [("Authorization", f"Bearer {token}")]
    return Request(EnvironBuilder(path="/", method="POST", headers=headers).get_environ())


# --- Tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
def test_the_callers_token_is_a_proof(google: Google, caller: GoogleCaller, issuer: str) -> None:
    caller.check(bearing(google.token(iss=issuer)))


def changed(token: str, **claims: Any) -> str:
    """Other claims under the same signature."""
    header, _, signature = token.split(".")
    return f"{header}.{segment(claims)}.{signature}"


REFUSED: dict[str, Callable[[Google], str | None]] = {
    "none": lambda _: None,
    "an empty one": lambda _: "",
    "an API key": lambda _: "dmt_0123456789abcdef_" + "0" * 64,
    "no JWT": lambda _: "a.b",
    "no JSON": lambda _: f"{encoded(b'no')}.{encoded(b'no')}.{encoded(b'no')}",
    "lists": lambda _: f"{segment([])}.{segment([])}.{encoded(b'no')}",
    "deep JSON": lambda _: f"{encoded(b'[' * 3000)}.{segment({})}.x",
    "too long": lambda g: g.token(more="x" * 9000),
    "of another audience": lambda g: g.token(aud=AUDIENCE.replace("heartbeat-check", "wake-worker")),
    "of several audiences": lambda g: g.token(aud=[AUDIENCE]),
    "of no audience": lambda g: g.token(aud=None),
    "of another issuer": lambda g: g.token(iss="https://accounts.google.com.example.org"),
    "self-signed": lambda g: g.token(iss=CALLER),
    "of another account": lambda g: g.token(email="dumont-wake@pro.iam.gserviceaccount.com"),
    "of another project's caller": lambda g: g.token(email=CALLER.replace("@pro.", "@pro2.")),
    "of an account that is not verified": lambda g: g.token(email_verified=False),
    "of one that says so in words": lambda g: g.token(email_verified="true"),
    "without the account": lambda g: g.token(email=None),
    "expired": lambda g: g.token(exp=g.claims()["iat"] - LEEWAY_SECONDS - 5),
    "of the future": lambda g: g.token(iat=g.claims()["iat"] + LEEWAY_SECONDS + 60),
    "without an end": lambda g: g.token(exp=None),
    "with an end in words": lambda g: g.token(exp="tomorrow"),
    "with an end that is no number": lambda g: g.token(exp=float("nan")),
    "unsigned": lambda g: g.unsigned(),
    "signed by what is public": lambda g: g.signed_with_the_public_key(),
    "changed": lambda g: changed(g.token(aud="else"), **g.claims()),
    "cut": lambda g: g.token()[:-8],
    "with its signature removed, where no door of Google's is": lambda g: g.stripped(),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_any_other_is_not(google: Google, caller: GoogleCaller, case: str, caplog: pytest.LogCaptureFixture) -> None:
    token = REFUSED[case](google)
    with caplog.at_level(logging.WARNING), pytest.raises(Unauthenticated) as refused:
        caller.check(bearing(token))
    assert document_of(refused.value).status == 401
    said_why = [record for record in caplog.records if record.getMessage() == "not Google's caller"]
    assert len(said_why) == 1
    if token:
        for text in (caplog.text, str(vars(said_why[0])), str(refused.value)):
            assert token not in text


def test_each_refusal_says_the_same_to_the_caller(google: Google, caller: GoogleCaller) -> None:
    documents = set()
    for make in REFUSED.values():
        with pytest.raises(Unauthenticated) as refused:
            caller.check(bearing(make(google)))
        documents.add(str(document_of(refused.value)))
    assert len(documents) == 1


def test_clocks_may_differ_a_little(google: Google, caller: GoogleCaller) -> None:
    now = google.claims()["iat"]
    caller.check(bearing(google.token(iat=now + LEEWAY_SECONDS - 5, exp=now + 3600)))
    caller.check(bearing(google.token(iat=now - 3600, exp=now - LEEWAY_SECONDS + 5)))


def test_another_key_under_a_known_name_is_no_key(google: Google, caller: GoogleCaller) -> None:
    stranger = Google()
    stranger.kid = google.kid
    with pytest.raises(Unauthenticated):
        caller.check(bearing(stranger.token()))


# --- Behind Google's front door -----------------------------------------------------------------------------------


@pytest.fixture
def behind_iam(keys: GoogleKeys) -> GoogleCaller:
    return GoogleCaller(make_keys=lambda: keys, caller=CALLER, audience=AUDIENCE, behind_iam=True)


def test_what_google_has_checked_and_stripped_is_believed_behind_its_door(
    google: Google, behind_iam: GoogleCaller, server: ScriptedServer
) -> None:
    behind_iam.check(bearing(google.stripped()))
    assert server.asked == [], "there is nothing to check with a key"


@pytest.mark.parametrize(
    "claims",
    [{"aud": "else"}, {"iss": "else"}, {"email": "else"}, {"email_verified": False}, {"exp": 1}],
)
def test_what_it_says_is_looked_at_all_the_same(
    google: Google, behind_iam: GoogleCaller, claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        behind_iam.check(bearing(google.stripped(**claims)))


def test_a_signature_that_is_there_is_checked_there_too(google: Google, behind_iam: GoogleCaller) -> None:
    behind_iam.check(bearing(google.token()))
    for token in (google.unsigned(), google.signed_with_the_public_key(), google.token()[:-8]):
        with pytest.raises(Unauthenticated):
            behind_iam.check(bearing(token))
    unsigned_but_stripped = google.unsigned() + "SIGNATURE_REMOVED_BY_GOOGLE"
    with pytest.raises(Unauthenticated):
        behind_iam.check(bearing(unsigned_but_stripped))


# --- Keys ---------------------------------------------------------------------------------------------------------


def test_keys_are_asked_for_once_while_they_hold(google: Google, caller: GoogleCaller, server: ScriptedServer) -> None:
    for _ in range(5):
        caller.check(bearing(google.token()))
    assert len(server.asked) == 1


def test_they_are_asked_for_again_when_they_hold_no_longer(
    google: Google, caller: GoogleCaller, server: ScriptedServer, moment: Moment
) -> None:
    caller.check(bearing(google.token()))
    moment.now += google.max_age + 1
    caller.check(bearing(google.token()))
    assert len(server.asked) == 2


def test_a_new_key_is_learned_when_its_first_token_comes(
    google: Google, caller: GoogleCaller, server: ScriptedServer, moment: Moment
) -> None:
    caller.check(bearing(google.token()))
    google.kid, google.more = "second", [google.jwk]
    moment.now += REFRESH_SECONDS + 1
    caller.check(bearing(google.token()))
    assert len(server.asked) == 2


def test_made_up_keys_make_us_ask_once_a_minute(
    google: Google, caller: GoogleCaller, server: ScriptedServer, moment: Moment
) -> None:
    caller.check(bearing(google.token()))
    published = google.kid
    for minute in range(3):
        moment.now += REFRESH_SECONDS + 1
        for number in range(10):
            google.kid = f"made-up-{minute}-{number}"
            token = google.token()
            google.kid = published
            with pytest.raises(Unauthenticated):
                caller.check(bearing(token))
    assert len(server.asked) == 1 + 3


@pytest.mark.parametrize(
    "answer",
    [
        said(500, {}),
        said(404, {}),
        Said(200, b"<html>"),
        said(200, {"keys": []}),
        said(200, {"keys": "none"}),
        said(200, []),
        said(302, {}, Location="http://127.0.0.1:1/"),
        Said(body=None),
    ],
    ids=lambda a: f"{a.status} {a.body!r:.20}",
)
def test_without_keys_nothing_is_believed_and_nothing_refused(
    google: Google, caller: GoogleCaller, moment: Moment, server: ScriptedServer, answer: Said
) -> None:
    google.answers = [answer]
    for _ in range(3):
        with pytest.raises(CannotTell) as unsure:
            caller.check(bearing(google.token()))
    assert document_of(unsure.value).status == 503
    assert len(server.asked) == 1, "who does not answer is not asked again at once"
    moment.now += RETRY_SECONDS
    caller.check(bearing(google.token()))


def test_a_server_that_is_not_there_is_no_answer(google: Google) -> None:
    caller = GoogleCaller(
        make_keys=lambda: GoogleKeys("http://127.0.0.1:1/"), caller=CALLER, audience=AUDIENCE, behind_iam=True
    )
    with pytest.raises(CannotTell):
        caller.check(bearing(google.token()))


def test_known_keys_serve_for_a_day_while_google_does_not_answer(
    google: Google, keys: GoogleKeys, moment: Moment
) -> None:
    known = keys.get("first")
    assert known
    google.answers = [said(503, {})] * 9
    moment.now += google.max_age + 1
    assert keys.get("first") == known
    moment.now += KEPT_SECONDS_MAX
    with pytest.raises(KeysUnavailable):
        keys.get("first")


def test_a_key_that_is_taken_back_counts_no_more(google: Google, keys: GoogleKeys, moment: Moment) -> None:
    assert keys.get("first")
    google.kid = "second"
    moment.now += google.max_age + 1
    assert keys.get("first") is None


def test_keys_for_anything_else_are_left_out(google: Google, keys: GoogleKeys) -> None:
    good = google.jwk
    google.more = [
        {**good, "kid": "encryption", "use": "enc"},
        {**good, "kid": "other algorithm", "alg": "PS256"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {**good, "kid": "broken", "n": "!"},
        {"kty": "RSA", "kid": "half", "e": "AQAB"},
        jwk_of(generate_private_key(public_exponent=65537, key_size=1024), "short"),  # noqa: S505
    ]
    for kid in ("encryption", "other algorithm", "secret", "broken", "half", "short"):
        assert keys.get(kid) is None, kid
    assert keys.get("first")


def test_nothing_of_it_is_imported_before_a_token_comes() -> None:
    code = (
        "import sys; from dumont.edge import google, http, wiring; "
        "print([m for m in ('google.auth', 'cryptography', 'dumont.adapters.google_keys') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
