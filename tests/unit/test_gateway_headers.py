"""What passes the gateway and what does not: headers, paths, waits."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from dumont.domain.errors import InvalidInput, Unknown
from dumont.edge import jws
from dumont.edge.gateway import headers
from dumont.edge.gateway.headers import Headers
from dumont.edge.gateway.target import Target, target_of, wait_seconds

PREFIX = "/gateway/trainer/8000"
TOKEN = "dgw_abc_0123"


def sent(*given: tuple[str, str], **options: Any) -> dict[str, str]:
    """What the machine is sent of these headers, by lower-case name."""
    usual: dict[str, Any] = {"length": None, "has_body": False, "client": "192.0.2.9", "scheme": "https"}
    passed = headers.towards_machine(list(given), port=8000, host="gw.example", prefix=PREFIX, **usual | options)
    names = [name.lower() for name, _ in passed]
    assert len(names) == len(set(names)), "no header is said twice"
    return {name.lower(): value for name, value in passed}


def answered(*given: tuple[str, str]) -> Headers:
    return headers.towards_caller(list(given), port=8000, prefix=PREFIX)


def request(path: str, *, mount: str = "", host: str = "localhost", **more: Any) -> Request:
    environ = EnvironBuilder(path=path.partition("?")[0], base_url=f"http://{host}/", **more).get_environ()
    environ |= {"SCRIPT_NAME": mount, "REQUEST_URI": path, "RAW_URI": path}
    return Request(environ)


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
def test_a_token_of_ours_is_a_proof_and_does_not_pass_and_a_programs_own_jwt_does(name: str) -> None:
    ours, theirs = (
        f"{jws.encoded(json.dumps({'alg': 'EdDSA', 'typ': kind}).encode())}.{jws.encoded(b'{}')}.AAAA"
        for kind in ("dumont+jwt", "JWT")
    )
    scheme = "Bearer " if name == "Authorization" else ""
    assert headers.credential([(name, f"{scheme}{ours}")]) == ours
    assert name.lower() not in sent((name, f"{scheme}{ours}"))
    assert headers.credential([(name, f"{scheme}{theirs}")]) is None
    assert sent((name, f"{scheme}{theirs}"))[name.lower()] == f"{scheme}{theirs}"


def test_what_is_about_one_connection_does_not_pass() -> None:
    passed = sent(
        ("Connection", "close, X-Private"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"), ("Proxy-Authorization", "Basic eA=="), ("X-Private", "1"), ("X-Public", "2"),
    )  # fmt: skip
    assert not passed.keys() & {"connection", "keep-alive", "te", "upgrade", "proxy-authorization", "x-private"}
    assert "transfer-encoding" not in passed
    assert passed["x-public"] == "2"


def test_the_machine_is_told_who_called_and_by_which_name() -> None:
    passed = sent(("Host", "gw.example"), ("X-Forwarded-For", "203.0.113.5"), ("X-Forwarded-Host", "forged"))
    assert passed["host"] == "127.0.0.1:8000"
    assert passed["x-forwarded-for"] == "203.0.113.5, 192.0.2.9"
    assert passed["x-forwarded-host"] == "gw.example"
    assert passed["x-forwarded-proto"] == "https"
    assert passed["x-forwarded-prefix"] == PREFIX


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", f"Bearer {TOKEN}"),
        ("authorization", f"bearer   {TOKEN}"),
        ("Authorization", "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()),
        ("Authorization", "Bearer dmt_abcdefgh_00"),
        ("X-Api-Key", "dmt_abcdefgh_00"),
        ("X-Dumont-Token", TOKEN),
    ],
)
def test_a_secret_of_ours_is_found_and_never_passed_on(name: str, value: str) -> None:
    found = headers.credential([(name, value)])
    assert found is not None
    assert found.startswith(("dgw_", "dmt_"))
    assert name.lower() not in sent((name, value))


def test_the_machines_own_authorization_passes_beside_our_token() -> None:
    given = [("Authorization", "token jupyter-secret"), ("X-Dumont-Token", TOKEN)]
    assert headers.credential(given) == TOKEN
    assert sent(*given)["authorization"] == "token jupyter-secret"
    assert "authorization" not in sent(*given, keep_authorization=False)


def test_two_secrets_of_ours_are_both_kept_back() -> None:
    given = [("Authorization", "Bearer dmt_abcdefgh_00"), ("X-Dumont-Token", TOKEN)]
    assert headers.credential(given) == TOKEN
    assert not sent(*given).keys() & {"authorization", "x-dumont-token"}


def test_a_body_of_unknown_length_goes_in_chunks() -> None:
    assert sent(has_body=True)["transfer-encoding"] == "chunked"
    assert sent(("Content-Length", "9"), has_body=True, length=9)["content-length"] == "9"
    assert "content-length" not in sent()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/login?next=/", f"{PREFIX}/login?next=/"),
        ("http://127.0.0.1:8000/login#x", f"{PREFIX}/login#x"),
        ("http://127.0.0.1:9000/login", "http://127.0.0.1:9000/login"),
        ("https://example.com/", "https://example.com/"),
        ("//example.com/", "//example.com/"),
        ("next", "next"),
        (f"{PREFIX}/already", f"{PREFIX}/already"),
        ("http://[", "http://["),
    ],
)
def test_a_redirect_stays_below_the_machines_path(location: str, expected: str) -> None:
    assert answered(("Location", location)) == [("Location", expected)]


def test_cookies_belong_to_the_machines_path_alone() -> None:
    given = [("Set-Cookie", "a=b; Domain=example.com; Path=/; HttpOnly"), ("Set-Cookie", "c=d; Path=/deep")]
    assert answered(*given) == [
        ("Set-Cookie", f"a=b; HttpOnly; Path={PREFIX}/"),
        ("Set-Cookie", f"c=d; Path={PREFIX}/deep"),
    ]


def test_the_path_is_passed_on_byte_for_byte() -> None:
    target = target_of(request("/gateway/trainer/8000/a%2Fb/%20?q=%2F&x-dumont-wait=5&r=1", mount="/gateway"))
    assert target == Target(
        machine="trainer", port=8000, prefix=PREFIX, path="/a%2Fb/%20", query="q=%2F&r=1", slashed=True
    )
    assert target.request_target == "/a%2Fb/%20?q=%2F&r=1"


def test_the_function_finds_its_path_whether_or_not_its_name_was_taken_away() -> None:
    mounted = target_of(request("/gateway/trainer/8000/x", mount="/gateway"))
    google = target_of(request("/trainer/8000/x", host="us-central1-p.cloudfunctions.net"))
    run = target_of(request("/trainer/8000/x", host="gateway-abc.a.run.app"))
    assert mounted == google
    assert (run.prefix, run.path) == ("/trainer/8000", "/x")


@pytest.mark.parametrize("path", ["/", "/trainer", "/trainer/", "/trainer/http/x", "/trainer/0/", "/trainer/70000/"])
def test_a_path_without_a_machine_and_a_port_is_not_found(path: str) -> None:
    with pytest.raises(Unknown):
        target_of(request(path))


def test_how_long_to_wait_is_the_callers_to_say() -> None:
    assert wait_seconds(request("/t/80/"), 50.0) == 50.0
    assert wait_seconds(request("/t/80/?X-Dumont-Wait=7.5"), 50.0) == 7.5
    assert wait_seconds(request("/t/80/", headers={"X-Dumont-Wait": "0"}), 50.0) == 0.0
    for nonsense in ("soon", "-1", "1e9", "nan"):
        with pytest.raises(InvalidInput):
            wait_seconds(request("/t/80/", headers={"X-Dumont-Wait": nonsense}), 50.0)
