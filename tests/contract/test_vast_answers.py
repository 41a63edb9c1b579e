"""Answers that no market should give, and some do: garbage, redirects, half an answer, none. By scripted servers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

import httpx
import pytest

from dumont.adapters.vast import Vast
from dumont.domain.errors import (
    AuthError,
    BidTooLow,
    InvalidRequest,
    NotFound,
    OfferGone,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
    StartRefused,
)
from dumont.domain.offers import Offer
from tests.contract.market_rig import EVERYTHING, KEY, VirtualClock, rental
from tests.contract.scripted_http import Asked, Said, ScriptedServer, in_turn, said

OFFER = Offer(provider="vast", id="77", gpu="RTX 4090", gpu_usd_per_hour=0.2)
ROW = {
    "id": 77,
    "disk_space": 100,
    "ask_contract_id": 77,
    "gpu_name": "RTX 4090",
    "num_gpus": 1,
    "dph_base": 0.2,
    "dph_total": 0.2,
}

Call = Callable[[Vast], object]
CALLS: dict[str, Call] = {
    "search": lambda vast: vast.search(EVERYTHING),
    "create": lambda vast: vast.create(OFFER, rental()),
    "get": lambda vast: vast.get("5"),
    "list": lambda vast: vast.list(""),
    "start": lambda vast: vast.start("5"),
    "stop": lambda vast: vast.stop("5"),
    "destroy": lambda vast: vast.destroy("5"),
    "attach": lambda vast: vast.attach_ssh_key("5", "ssh-ed25519 AAAA"),
    "logs": lambda vast: vast.logs("5"),
    "bid": lambda vast: vast.change_bid("5", 0.3),
    "credit": lambda vast: vast.credit_usd(),
}
ONCE = {"create", "start", "bid"}


@pytest.fixture
def answered(client: httpx.Client, clock: VirtualClock) -> Callable[[ScriptedServer], Vast]:
    return lambda server: Vast(KEY, server.url, clock=clock, client=client)


Answered = Callable[[ScriptedServer], Vast]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "answer",
    [
        Said(200, b"<html>Just a moment</html>"),
        Said(200, b""),
        Said(200, b"[]"),
        Said(200, b"null"),
        Said(200, b'{"success": true, "instances": [{"id": 1'),
        Said(200, b"[" * 100_000),
        Said(200, b"\xff\xfe\x00"),
        Said(404, b"<html>404 Not Found</html>"),
        Said(410, b""),
        Said(502, b"<html>Bad gateway</html>"),
        Said(500, b'{"success": false}'),
        Said(302, b"{}", {"Location": "/elsewhere"}),
        Said(200, None),
    ],
    ids=lambda answer: f"{answer.status}-{(answer.body or b'closed')[:12]!r}",
)
def test_what_cannot_be_read_is_a_provider_that_is_down(answered: Answered, call: Call, answer: Said) -> None:
    with ScriptedServer(in_turn(answer)) as server:
        with pytest.raises(ProviderDown):
            call(answered(server))
        once = call in [CALLS[name] for name in ONCE]
        assert len(server.asked) == (1 if once else 3)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("search", {}),
        ("search", {"offers": None}),
        ("search", {"offers": {"id": 5}}),
        ("search", {"offers": [None, 5, {"gpu_name": "RTX 4090"}]}),
        ("create", {"success": True}),
        ("create", {"success": True, "new_contract": None}),
        ("create", {"success": True, "new_contract": "none"}),
        ("get", {}),
        ("get", {"instances": {}}),
        ("get", {"instances": []}),
        ("get", {"instances": {"id": 6}}),
        ("list", {}),
        ("list", {"instances": None}),
        ("list", {"instances": {}}),
        ("list", {"success": True, "instances": [{"id": 1}, {"label": "dumont.main.a.1.x"}]}),
        ("list", {"instances": [{"id": 1}], "instances_found": 2}),
        ("list", {"instances": [{"id": 1}], "total_instances": 2}),
        ("list", {"instances": [], "next_token": 7}),
        ("list", {"instances": [{"id": 1}], "next_token": "again"}),
        ("logs", {"success": True}),
        ("logs", {"success": True, "result_url": "file:///etc/passwd"}),
        ("logs", {"success": True, "result_url": "http://[::1"}),
    ],
)
def test_half_an_answer_is_no_answer(answered: Answered, call: str, body: object) -> None:
    with ScriptedServer(in_turn(said(200, body))) as server, pytest.raises(ProviderDown):
        CALLS[call](answered(server))


def test_an_empty_market_and_an_empty_account_are_no_errors(answered: Answered) -> None:
    with ScriptedServer(in_turn(said(200, {"offers": []}), said(200, {"success": True, "instances": []}))) as server:
        vast = answered(server)
        assert vast.search(EVERYTHING) == []
        assert vast.list("") == []
    with ScriptedServer(in_turn(said(200, {"id": 1}))) as server:
        assert answered(server).credit_usd() is None


@pytest.mark.parametrize(
    ("call", "status", "body", "error"),
    [
        ("create", 400, {"success": False, "error": "no_such_ask"}, OfferGone),
        (
            "create",
            404,
            {"error": "invalid_args", "msg": "error 404/3603: no_such_ask Instance type by id 7"},
            OfferGone,
        ),
        ("create", 410, {"success": False}, OfferGone),
        ("create", 200, {"success": False, "error": "no_such_ask"}, OfferGone),
        ("create", 200, {"success": False, "error": "insufficient_credit"}, OutOfCredit),
        ("create", 400, {"msg": "Your account lacks credit; see the billing page."}, OutOfCredit),
        ("create", 429, {"success": False, "error": "spend_rate_limit"}, OutOfCredit),
        ("create", 400, {"success": False, "error": "bid_too_low"}, BidTooLow),
        ("create", 400, {"success": False, "msg": "Your bid is below 0.2."}, BidTooLow),
        ("create", 400, {"success": False, "error": "invalid_args"}, InvalidRequest),
        ("create", 403, {"success": False, "error": "invalid_args", "msg": "Offer 7 is not your own."}, InvalidRequest),
        ("create", 401, {}, AuthError),
        ("create", 403, {"error": "not_authorized"}, AuthError),
        ("create", 404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, AuthError),
        ("create", 429, {"detail": "API requests too frequent endpoint threshold=4.5"}, RateLimited),
        ("create", 200, {"success": False, "msg": "Required resources are currently unavailable"}, ProviderDown),
        ("get", 404, {"success": False, "error": "no_such_instance"}, NotFound),
        ("get", 200, {"success": False, "error": "no_such_instance"}, NotFound),
        ("get", 404, {"success": False}, ProviderDown),
        ("get", 404, {"success": False, "error": "auth_error"}, AuthError),
        ("list", 410, {"success": False, "error": "deprecated_endpoint"}, InvalidRequest),
        ("list", 200, {"success": False}, InvalidRequest),
        (
            "start",
            200,
            {"success": False, "error": "resources_unavailable", "msg": "state change queued."},
            StartRefused,
        ),
        ("start", 200, {"success": True, "msg": "Required resources are currently unavailable"}, StartRefused),
        ("start", 400, {"success": False, "error": "insufficient_credit"}, OutOfCredit),
        ("stop", 404, {"success": False, "error": "no_such_instance"}, NotFound),
        ("destroy", 404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, AuthError),
        ("destroy", 400, {"success": False, "error": "invalid_args", "msg": "invalid instance_id"}, InvalidRequest),
        ("attach", 400, {"success": False, "error": "invalid_args"}, InvalidRequest),
        ("bid", 400, {"success": False, "error": "invalid_args", "msg": "Please set a bid price"}, InvalidRequest),
    ],
)
def test_each_refusal_has_its_type(
    answered: Answered, call: str, status: int, body: object, error: type[ProviderError]
) -> None:
    with ScriptedServer(in_turn(said(status, body))) as server:
        with pytest.raises(ProviderError) as refused:
            CALLS[call](answered(server))
        assert type(refused.value) is error
        assert refused.value.provider == "vast"


@pytest.mark.parametrize("status", [200, 400, 404])
def test_a_refusal_that_names_a_contract_is_an_instance_that_bills(answered: Answered, status: int) -> None:
    answer = said(status, {"success": False, "error": "whatever", "new_contract": 4711})
    with ScriptedServer(in_turn(answer)) as server, pytest.raises(BidTooLow) as refused:
        answered(server).create(OFFER, rental())
    assert refused.value.provider_instance_id == "4711"


@pytest.mark.parametrize(
    ("call", "status", "body"),
    [
        ("destroy", 404, {"success": False, "error": "no_such_instance"}),
        ("destroy", 404, {"success": False, "error": "not_found", "msg": "Instance not found"}),
        ("destroy", 404, {"success": False}),
        ("destroy", 200, {"success": False, "error": "no_such_instance"}),
        ("attach", 400, {"success": False, "msg": "SSH key already associated with instance."}),
        ("attach", 200, {"success": False, "error": "key_already_attached"}),
    ],
)
def test_what_was_done_before_succeeds(answered: Answered, call: str, status: int, body: object) -> None:
    with ScriptedServer(in_turn(said(status, body))) as server:
        CALLS[call](answered(server))


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (said(429, {"detail": "API requests too frequent endpoint threshold=2.5"}), 2.5),
        (Said(429, b"API requests too frequent: endpoint threshold=3.25"), 3.25),
        (Said(429, b""), 2.0),
        (said(429, {}, Retry_After="11"), 11.0),
        (said(429, {}, Retry_After="0"), 0.25),
        (said(429, {}, Retry_After="soon"), 2.0),
        (said(429, {}, Retry_After="nan"), 2.0),
        (said(429, {}, Retry_After="-5"), 0.25),
    ],
)
def test_a_429_is_waited_out_as_long_as_it_says(
    answered: Answered, clock: VirtualClock, answer: Said, seconds: float
) -> None:
    with ScriptedServer(in_turn(answer, said(200, {"instances": None}))) as server, pytest.raises(NotFound):
        answered(server).get("5")
    assert clock.slept == [seconds]


def test_a_daily_quota_is_not_waited_for(answered: Answered, clock: VirtualClock) -> None:
    answer = said(429, {"success": False, "error": "search_quota_exceeded"})
    with ScriptedServer(in_turn(answer)) as server, pytest.raises(RateLimited) as refused:
        answered(server).search(EVERYTHING)
    assert (clock.now() + refused.value.retry_after_seconds) % 86_400 == 0
    assert clock.slept == []


def test_search_gets_past_one_price_on_a_server_that_ignores_what_is_excluded(answered: Answered) -> None:
    cheap = [{**ROW, "id": n, "ask_contract_id": n} for n in range(1, 101)]
    dear = [{**ROW, "id": n, "ask_contract_id": n, "dph_base": 0.3, "dph_total": 0.3} for n in range(101, 111)]

    def answer(asked: Asked) -> Said:
        floor = asked.json.get("dph_total", {}).get("gte", 0.0)
        rows = (cheap if floor <= 0.2 else []) + (dear if floor <= 0.3 else [])
        return said(200, {"offers": rows[:64]})

    with ScriptedServer(answer) as server:
        found = {int(offer.id) for offer in answered(server).search(EVERYTHING)}
    assert found == set(range(1, 65)) | set(range(101, 111))


# --- Secrets, origins, time ---------------------------------------------------------------------------------------


def test_the_key_is_sent_to_no_other_origin(answered: Answered) -> None:
    with ScriptedServer(in_turn(Said(404, b"not yet"), Said(200, b"line 1\nline 2\n"))) as elsewhere:
        signed = f"{elsewhere.url}/logs/5.log?X-Amz-Signature=abc"
        with ScriptedServer(in_turn(said(200, {"success": True, "result_url": signed}))) as server:
            assert answered(server).logs("5", tail=2) == "line 1\nline 2\n"
            assert [asked.headers["Authorization"] for asked in server.asked] == [f"Bearer {KEY}"]
            assert server.asked[0].json == {"tail": "2"}
        redirect = Said(307, b"", {"Location": f"{elsewhere.url}/"})
        with ScriptedServer(in_turn(redirect)) as server, pytest.raises(ProviderDown):
            answered(server).credit_usd()
        assert [asked.path for asked in elsewhere.asked] == ["/logs/5.log?X-Amz-Signature=abc"] * 2
        assert all("Authorization" not in asked.headers for asked in elsewhere.asked)


def test_the_key_is_in_no_error_log_or_name(answered: Answered, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    echo = said(400, {"success": False, "error": "invalid_args", "msg": f"bad header: Bearer {KEY}"})
    with ScriptedServer(in_turn(echo)) as server:
        vast = answered(server)
        for call in CALLS.values():
            with pytest.raises(ProviderError) as refused:
                call(vast)
            assert KEY not in f"{refused.value} {refused.value!r} {refused.value.__context__!r}"
        assert KEY not in caplog.text
        assert KEY not in repr(vast)


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "ключ"])
def test_a_key_that_is_none_is_refused_unquoted(clock: VirtualClock, key: str) -> None:
    with pytest.raises(AuthError) as refused:
        Vast(key, "http://127.0.0.1:1", clock=clock)
    assert not key.strip() or key not in str(refused.value)


def test_a_message_cannot_forge_lines_of_a_log(answered: Answered) -> None:
    answer = said(400, {"msg": "no\n2026-01-01 CRITICAL all is lost\x1b[31m" + "x" * 5000})
    with ScriptedServer(in_turn(answer)) as server, pytest.raises(InvalidRequest) as refused:
        answered(server).stop("5")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_what_is_sent_for_a_create_is_what_vast_asks_for(answered: Answered) -> None:
    with ScriptedServer(in_turn(said(200, {"success": True, "new_contract": 5}))) as server:
        assert answered(server).create(OFFER, rental(bid=0.3)) == "5"
        [asked] = server.asked
    assert (asked.method, asked.path) == ("PUT", "/api/v0/asks/77/")
    assert asked.headers["Content-Type"] == "application/json"
    body = asked.json
    assert body["client_id"] == "me"
    assert body["runtype"] == "ssh_direc ssh_proxy"
    assert (body["price"], body["disk"], body["env"], body["cancel_unavail"]) == (0.3, 20, {}, True)
    assert json.loads(json.dumps(body)) == body


@pytest.mark.parametrize("bad_id", ["", "../../users", "5/../6", "-1", "x"])
def test_an_id_that_is_none_is_never_sent(answered: Answered, bad_id: str) -> None:
    with ScriptedServer(in_turn(said(200, {}))) as server:
        for call in (answered(server).get, answered(server).destroy, answered(server).stop):
            with pytest.raises(InvalidRequest):
                call(bad_id)
        assert server.asked == []


class NearlyOver:
    """A clock by which only one second of the call is left once it has begun."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> float:
        self._looks += 1
        return 0.0 if self._looks == 1 else 43.0 + time.monotonic() / 1e9

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"no time is left to sleep {seconds} s")


def test_a_server_that_says_nothing_is_given_up_within_the_time_left(client: httpx.Client) -> None:
    with ScriptedServer(in_turn(Said(silent=True))) as server:
        began = time.monotonic()
        with pytest.raises(ProviderDown):
            Vast(KEY, server.url, clock=NearlyOver(), client=client).create(OFFER, rental())
        assert time.monotonic() - began < 5.0
