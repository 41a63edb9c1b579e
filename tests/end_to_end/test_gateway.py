"""HTTP through the gateway to a machine's port, on the local cloud: real SSH, real streams, a real program there."""

from __future__ import annotations

import hashlib
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from msgspec.structs import replace

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.gateway_support import Served


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def bot(cloud: Cloud) -> Iterator[Served]:
    served = Served(cloud, "bot")
    served.answers()
    yield served
    served.end()


# --- Access ---


def test_strangers_learn_nothing_not_even_which_machines_there_are(bot: Served) -> None:
    def refusal(secret: str | None, url: str = bot.url) -> dict[str, object]:
        answer = bot.caller(secret).get(f"{url}/echo")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        return {name: value for name, value in answer.json().items() if name != "request_id"}

    elsewhere = bot.url.replace("/bot/", "/nobody/")
    assert refusal(None) == refusal(None, elsewhere) == refusal(bot.token, elsewhere) == refusal(f"{bot.token}0")


def test_an_operators_key_opens_every_machine_and_knows_which_are_not_there(cloud: Cloud, bot: Served) -> None:
    assert cloud.http.get(f"/gateway/bot/{bot.port}/echo").status_code == 200
    answer = cloud.http.get("/gateway/nobody/8000/echo")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_tokens_end_by_rotation_and_by_time(bot: Served) -> None:
    assert bot.caller(bot.token).get("/echo").status_code == 200
    before, bot.token = bot.token, bot.new_token(rotate=True)
    bot.http = bot.caller(bot.token)
    assert bot.caller(before).get("/echo").status_code == 401
    assert bot.http.get("/echo").status_code == 200
    short = bot.caller(bot.new_token(valid_seconds=4))
    assert short.get("/echo").status_code == 200
    wait_for(lambda: short.get("/echo").status_code == 401, seconds=20, why="the token has ended")


def test_a_token_begets_no_token(bot: Served) -> None:
    assert bot.caller(bot.token).post(bot.url.replace(f"/{bot.port}", "/token")).status_code == 401


def test_the_command_line_prints_the_token_and_the_url(cloud: Cloud, bot: Served) -> None:
    token = cloud.cli("gateway", "token", "bot", "--valid-hours", "1").stdout.strip()
    url = cloud.cli("url", "bot", str(bot.port)).stdout.strip()
    assert httpx.get(f"{url}echo", headers={"X-Dumont-Token": token}).status_code == 200


# --- Passing ---


def test_a_request_arrives_as_it_was_sent_without_our_secrets(bot: Served) -> None:
    mine = bot.caller(None, **{"X-Dumont-Token": bot.token, "Authorization": "token its-own", "Connection": "close"})
    echo = mine.patch("/echo?a=%2F&b", content=b"body").json()
    seen = {name.lower(): value for name, value in echo["headers"].items()}
    assert (echo["method"], echo["target"], echo["bytes"]) == ("PATCH", "/echo?a=%2F&b", 4)
    assert seen["authorization"] == "token its-own"
    assert "x-dumont-token" not in seen
    assert seen["x-forwarded-prefix"] == f"/gateway/bot/{bot.port}"
    assert "authorization" not in {name.lower() for name in bot.http.get("/echo").json()["headers"]}


def test_redirects_and_cookies_stay_below_the_machine(bot: Served) -> None:
    answer = bot.http.get("/moved")
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/gateway/bot/{bot.port}/echo"
    assert "example.com" not in answer.headers["Set-Cookie"]
    bare = httpx.get(bot.url, headers={"X-Dumont-Token": bot.token})
    assert (bare.status_code, bare.headers["Location"]) == (308, f"/gateway/bot/{bot.port}/")


def test_head_has_a_length_and_no_body(bot: Served) -> None:
    answer = bot.http.head("/echo")
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.content == b""


def test_events_arrive_as_they_are_sent(bot: Served) -> None:
    def longest_lag_seconds() -> float:
        lags = []
        with bot.http.stream("GET", "/events?count=6&seconds=0.3") as answer:
            for line in answer.iter_lines():
                if line:
                    lags.append(time.time() - float(line.split()[2]))
        assert len(lags) == 6
        return max(lags)

    # Each time one would, if any waited for the next; a busy computer may be late now and then.
    wait_for(lambda: longest_lag_seconds() < 0.25, seconds=20, why="none waits for the next")


def test_large_bodies_pass_whole_both_ways(bot: Served) -> None:
    data = os.urandom(12_000_000)
    wanted = hashlib.sha256(data).hexdigest()
    assert bot.http.post("/echo", content=data).json()["sha256"] == wanted
    pieces = (data[at : at + 700_001] for at in range(0, len(data), 700_001))
    assert bot.http.put("/echo", content=pieces).json()["sha256"] == wanted
    direct = httpx.get(f"http://127.0.0.1:{bot.port}/noise?bytes=30000000").content
    assert hashlib.sha256(bot.http.get("/noise?bytes=30000000").content).digest() == hashlib.sha256(direct).digest()


def test_twenty_requests_at_once_are_all_answered_and_do_not_mix(bot: Served) -> None:
    def ask(number: int) -> bool:
        data = os.urandom(50_000)
        echo = bot.http.post(f"/echo?n={number}", content=data).json()
        return bool(echo["target"] == f"/echo?n={number}" and echo["sha256"] == hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(100)))


# --- What goes wrong ---


def test_a_program_that_hangs_up_is_a_bad_gateway(bot: Served) -> None:
    answer = bot.http.get("/dies")
    assert (answer.status_code, answer.json()["code"]) == (502, "connection_lost")


def test_half_an_answer_does_not_pass_for_a_whole_one(bot: Served) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        bot.http.get("/half")


def test_a_port_where_nothing_listens_is_a_bad_gateway_once_the_program_had_time_to_start(bot: Served) -> None:
    nowhere = bot.url.replace(str(bot.port), "9")
    young = bot.http.get(f"{nowhere}/", headers={"X-Dumont-Wait": "0"})
    assert (young.status_code, young.json()["code"]) == (503, "not_serving_yet")
    assert int(young.headers["Retry-After"]) > 0
    old = replace(bot.record(), running_since=(bot.record().running_since or 0.0) - 3600)
    bot.records.transact(lambda tx: tx.put(old))
    answer = bot.http.get(f"{nowhere}/")
    assert (answer.status_code, answer.json()["code"]) == (502, "port_closed")


def test_what_is_no_http_is_a_bad_gateway(bot: Served) -> None:
    class Mail(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"220 mail.example ESMTP\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Mail) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        answer = bot.http.get(bot.url.replace(str(bot.port), str(server.server_address[1])) + "/")
        server.shutdown()
        serving.join()
    assert (answer.status_code, answer.json()["code"]) == (502, "not_http")


def test_a_websocket_is_refused_in_words(bot: Served) -> None:
    answer = bot.http.get("/echo", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert (answer.status_code, answer.json()["code"]) == (501, "no_websocket")
    assert "ssh" in answer.json()["hint"]


def test_requests_are_noted_and_not_each_of_them(bot: Served) -> None:
    bot.answers()
    noted = bot.record().last_request_at
    assert time.time() - noted < 25
    for _ in range(10):
        bot.answers()
    assert bot.record().last_request_at - noted in (0.0, pytest.approx(20.0, abs=5.0))
