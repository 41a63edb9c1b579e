"""Requests for machines that sleep, move or are cut off; and the official OpenAI client across a wake."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.gateway_support import Served
from tests.end_to_end.model_server import WORDS


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("wakes")) as running:
        yield running


@pytest.fixture(scope="module")
def tiny(cloud: Cloud) -> Iterator[Served]:
    served = Served(cloud, "tiny", {"models": ["tiny", "broken"]}, start_seconds=1.0)
    served.answers()
    yield served
    served.end()


def client_of(cloud: Cloud, key: str, *, retries: int = 2) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{cloud.port}/v1", api_key=key, max_retries=retries)


def chat(client: openai.OpenAI, model: str = "tiny") -> list[tuple[str, float]]:
    """A streamed answer's pieces, and when each came."""
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], stream=True, timeout=90
    )
    return [(piece.choices[0].delta.content or "", time.monotonic()) for piece in stream]


# --- OpenAI's shape ---


def test_the_official_client_lists_models_asks_and_streams(cloud: Cloud, tiny: Served) -> None:
    client = client_of(cloud, tiny.token)
    assert {model.id for model in client.models.list()} == {"tiny", "broken"}
    assert client.models.retrieve("tiny").owned_by == "dumont"
    pieces = chat(client)
    assert [text for text, _ in pieces] == WORDS
    assert pieces[-1][1] - pieces[0][1] > 0.25, "they come one by one"
    answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "".join(WORDS)
    assert client.embeddings.create(model="tiny", input="x", encoding_format="float").data[0].embedding == [0.25, 0.5]


def test_what_is_wrong_is_said_in_its_own_shape(cloud: Cloud, tiny: Served) -> None:
    client = client_of(cloud, cloud.key)
    with pytest.raises(openai.NotFoundError) as unknown:
        chat(client, "gpt-4")
    assert unknown.value.code == "model_not_found"
    assert "tiny" in unknown.value.message
    with pytest.raises(openai.BadRequestError, match="it broke"):
        chat(client, "broken")
    with pytest.raises(openai.AuthenticationError):
        chat(client_of(cloud, "sk-somebody-elses"))
    empty = cloud.http.post("/v1/chat/completions", content=b"{}")
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "model")
    assert cloud.http.get("/v1/nothing").json()["error"]["code"] == "not_found"


def test_the_official_client_streams_across_a_wake(cloud: Cloud, tiny: Served) -> None:
    tiny.sleep()
    client = client_of(cloud, tiny.token)
    assert [m.model_dump()["state"] for m in client.models.list() if m.id == "tiny"] == ["hibernated"]
    assert [text for text, _ in chat(client)] == WORDS
    assert len(tiny.operations("wake")) >= 1


# --- Waking ---


def test_requests_at_once_make_one_wake_and_keep_their_bodies(tiny: Served) -> None:
    tiny.sleep()
    before = len(tiny.operations("wake"))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(tiny.http.post, "/echo", content=b"x" * (n + 1)) for n in range(4)]
        answers = [future.result() for future in asked]
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    assert [answer.json()["bytes"] for answer in answers] == [1, 2, 3, 4]
    assert len(tiny.operations("wake")) == before + 1


def test_who_does_not_wait_is_told_how_far_the_wake_is(cloud: Cloud, tiny: Served) -> None:
    tiny.sleep(pause=True)
    answer = tiny.http.get("/echo", headers={"X-Dumont-Wait": "0"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    progress = answer.json()["progress"]
    assert (progress["state"], progress["operation_id"] != "") == ("waking", True)
    assert progress["expected_seconds"] > 0
    hurried = client_of(cloud, tiny.token, retries=0).with_options(default_headers={"X-Dumont-Wait": "0"})
    with pytest.raises(openai.InternalServerError) as refused:
        chat(hurried)
    assert refused.value.status_code == 503
    assert tiny.answers()["method"] == "GET"


def test_a_wake_that_cannot_be_had_is_said_and_not_tried_again_at_once(cloud: Cloud, tiny: Served) -> None:
    tiny.sleep()
    cloud.fault("out_of_credit", count=None)
    try:
        before = len(tiny.operations("wake"))
        answer = tiny.http.get("/echo", headers={"X-Dumont-Wait": "60"})
        assert (answer.status_code, answer.json()["code"]) == (503, "wake_failed"), answer.text
        again = tiny.http.get("/echo")
        assert (again.status_code, again.json()["code"]) == (503, "wake_failed")
        assert len(tiny.operations("wake")) == before + 1
    finally:
        cloud.mend()
    assert cloud.cli("wake", "tiny").returncode == 0
    tiny.answers()


# --- Moving and breaking ---


def test_after_a_failover_requests_go_to_the_new_host(cloud: Cloud) -> None:
    mover = Served(cloud, "mover", {"stateless": True})
    before = mover.answers()["instance"]
    cloud.fault("hung", label=before)
    # Well under way before the death is noticed: it rides through on the wait.
    after = mover.answers()["instance"]
    assert after != before
    assert mover.record().instance_id == after
    assert mover.record().epoch == 2
    mover.end()


def test_a_machine_that_is_cut_off_is_a_bad_gateway_also_under_a_request(cloud: Cloud) -> None:
    lone = Served(cloud, "lone", {"failover": "off"})
    lone.answers()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(lone.http.post, "/slow?seconds=60")
        wait_for(lambda: lone.record().last_request_at > 0, seconds=10, why="it is under way")
        cloud.fault("network_cut", label=lone.record().instance_id)
        began = time.monotonic()
        refused = lone.http.get("/echo", headers={"X-Dumont-Wait": "0"})
        assert refused.status_code in (502, 504), refused.text
        broken: httpx.Response = under_way.result()
        assert broken.status_code in (502, 504), broken.text
        assert time.monotonic() - began < 45
    lone.end()
