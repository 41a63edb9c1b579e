"""`advise`, `templates` and `deploy`: what is asked of the API, what is shown, and what is agreed to."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.domain.templates import TEMPLATES
from tests.unit.cli_world import NOW, World, instance, machine, offer, operation, output, problem

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def need(quantisation: str, weights: float) -> dict[str, Any]:
    splits = [{"gpu_count": 1, "vram_gib": round(weights / 0.9 + 3, 2)}]
    parts = {"weights_gib": weights, "kv_cache_gib": 1.0, "overhead_gib": 1.5, "need_gib": weights + 2.5}
    return {"quantisation": quantisation, **parts, "splits": splits}


def fit(quantisation: str, gpu: str, usd: float, **fields: Any) -> dict[str, Any]:
    view = {"quantisation": quantisation, "gpu": gpu, "gpu_count": 1, "vram_gib": 24.0, "needs_vram_gib": 19.4}
    view |= {"count": 4, "usd_per_hour": usd, "usd_per_day": usd * 24, "race_usd_per_hour": usd * 1.5}
    return {**view, "offer": offer(gpu=gpu), **fields}


def advice(**fields: Any) -> dict[str, Any]:
    view: dict[str, Any] = {"model": "Llama 3.1 8B", "repository": LLAMA, "kind": "text", "parameters_billions": 8.03}
    view |= {"known": True, "gated": True, "assumed": ["llama 8b is taken for Llama 3.1 8B"], "template": "vllm"}
    view |= {"requests": 1, "context": 8192, "download_gb": 16.1, "disk_gb": 48.0}
    view |= {"needs": [need("fp16", 15.0), need("int8", 8.5), need("int4", 5.4)]}
    view |= {"offers": [fit("fp16", "RTX 3090", 0.12), fit("fp16", "RTX 4090", 0.2), fit("int4", "RTX 3060", 0.07)]}
    return {"advice": view | fields}


@pytest.fixture
def renting(api: World) -> World:
    """A world in which a deployment serves at the second look."""
    api.says("GET /advisor", advice())
    api.says("POST /provision", {"machine": machine(state="provisioning"), "operation": operation(machine="bot")})
    ended = operation(machine="bot", instances=[instance("a", state="proven")], state="succeeded", ended_at=NOW + 9)
    api.says("GET /operations/op-1", {"operation": ended})
    workload = {"state": "starting", "restarts": 0}
    loading = machine(name="bot", spec={"health": "http:8000/health"}, heartbeat={"workload": workload})
    serving = {**loading, "heartbeat": {"workload": {"state": "healthy", "restarts": 0}}}
    api.says("GET /machines/bot", {"machine": loading}, {"machine": loading}, {"machine": serving})
    return api


def sent(api: World) -> dict[str, Any]:
    body: dict[str, Any] = api.last("POST /provision").json
    return body


# --- advise ---


def test_advise_shows_the_need_and_what_holds_it_by_the_hour_and_the_day(api: World) -> None:
    api.says("GET /advisor", advice())
    result = api.run("advise", "llama", "8b", "--context", "4096", "--max-price", "1", "--unverified")
    assert result.exit_code == 0
    for shown in ("8.03 billion parameters", "15.0 GiB", "17.5 GiB", "1 × 19.7", "RTX 3090", "$0.1200", "$2.88"):
        assert shown in result.stdout
    assert "assumed: llama 8b is taken for Llama 3.1 8B" in result.stderr
    assert api.query("GET /advisor") == {
        "model": "llama 8b", "context": "4096", "max_price_usd_per_hour": "1.0", "verified_only": "false",
    }  # fmt: skip


def test_advise_says_where_nothing_holds_it_and_what_was_not_heard(api: World) -> None:
    api.says("GET /advisor", advice(offers=[], unsearched_gpu_counts=[2, 4], unanswered=["tensordock"]))
    result = api.run("advise", "llama", "8b")
    assert "no offer holds it" in result.stderr
    assert "no market answered about offers of 2 or 4 GPUs" in result.stderr
    assert "tensordock did not answer" in result.stderr


def test_advise_has_its_json_and_its_errors(api: World) -> None:
    api.says("GET /advisor", advice())
    assert output(api.run("advise", "llama", "8b", "--json")) == advice()
    api.says("GET /advisor", problem(400, "invalid_input", "'x' is no model", hint="do you mean y?"))
    result = api.run("advise", "x")
    assert result.exit_code == 2
    assert "do you mean y?" in result.stderr


# --- templates ---


def test_templates_are_listed(api: World) -> None:
    listed = api.run("templates").stdout
    assert all(f"{t.name} " in listed and t.image in listed for t in TEMPLATES)
    shown = output(api.run("templates", "--json"))["templates"]
    assert [t["name"] for t in shown] == [t.name for t in TEMPLATES]
    assert shown[0]["health"] == "http:8000/health"
    assert api.asked == [], "it needs no API"


def test_up_sends_a_template_and_only_what_was_said_besides(renting: World) -> None:
    renting.says("GET /machines/trainer", {"machine": machine(spec={"model_port": 8888, "workspace": "workspace"})})
    result = renting.run("up", "trainer", "--template", "jupyter", "--gpu", "L4")
    body = sent(renting)
    body.pop("ssh_public_keys")
    assert body == {"name": "trainer", "template": "jupyter", "gpu": "L4"}
    assert "ssh -L 8888:127.0.0.1:8888 trainer" in result.stdout
    assert "cat workspace/.jupyter/token" in result.stdout
    renting.run("up", "trainer", "--template", "vllm", "--model", "a", "--context", "9", "--quantization", "int4")
    assert (sent(renting)["models"], sent(renting)["context"], sent(renting)["quantisation"]) == (["a"], 9, "int4")


def test_what_is_for_a_template_needs_one(api: World) -> None:
    result = api.run("up", "trainer", "--context", "4096")
    assert result.exit_code == 2
    assert "--context is for a --template" in result.stderr
    assert api.asked == []


# --- deploy ---


def test_deploy_rents_the_cheapest_that_holds_it_and_says_how_to_call_it(renting: World) -> None:
    result = renting.run("deploy", "llama", "8b", "--name", "bot", "--yes")
    assert result.exit_code == 0, result.output
    body = sent(renting)
    body.pop("ssh_public_keys")
    assert body == {
        "name": "bot", "template": "vllm", "model": LLAMA, "models": [LLAMA], "context": 8192, "quantisation": "fp16",
        "gpu": "RTX 3090", "gpu_count": 1, "min_vram_gib": 19.4, "max_price_usd_per_hour": 0.18, "disk_gb": 48.0,
    }  # fmt: skip
    assert "bot: RTX 3090 (24 GiB each, 19.4 needed), 48 GB of disk, at $0.1200/h to $0.1800/h" in result.stdout
    assert "it fetches and loads the model" in result.stderr
    assert f"OPENAI_BASE_URL={renting.url}/v1" in result.stdout
    assert "dumont gateway token bot" in result.stdout
    snippet = result.stdout.split("python3 -c '")[1].split("'")[0]
    assert f'model="{LLAMA}"' in snippet
    compile(snippet, "snippet", "exec")


def test_deploy_asks_and_rents_nothing_where_nobody_answers(renting: World) -> None:
    result = renting.run("deploy", "llama", "8b")
    assert result.exit_code == 2
    assert "RTX 3090" in result.stdout
    assert "--yes agrees to it" in result.stderr
    assert not [asked for asked in renting.asked if asked.method == "POST"]


def test_deploy_in_json_asks_nothing_and_answers_with_everything(renting: World) -> None:
    answer = output(renting.run("deploy", "llama", "8b", "--name", "bot", "--json"))
    assert answer["machine"]["name"] == "bot"
    assert answer["operation"]["state"] == "succeeded"
    assert (answer["model"], answer["base_url"]) == (LLAMA, f"{renting.url}/v1")
    assert answer["fit"]["gpu"] == "RTX 3090"


def test_deploy_calls_the_machine_after_the_model_and_the_model_by_the_name_that_was_given(renting: World) -> None:
    renting.run("deploy", "llama-8b", "--yes", "--detach")
    assert sent(renting)["name"] == "llama-3-1-8b-instruct"
    assert sent(renting)["models"] == [LLAMA, "llama-8b"]


def test_what_is_said_goes_with_it(renting: World) -> None:
    said = "--run serve --health port:9 --port 9 --image mine --sleep-after 1h --race 1 --region SE --max-price 0.15"
    renting.run("deploy", "llama", "8b", "--yes", "--detach", *said.split())
    expected = {"run": "serve", "health": "port:9", "model_port": 9, "image": "mine", "idle_after_minutes": 60.0}
    expected |= {"race_width": 1, "region": "SE", "max_price_usd_per_hour": 0.15}
    assert expected.items() <= sent(renting).items()
    renting.run("deploy", "llama", "8b", "--yes", "--detach", "--sleep-after", "never")
    assert sent(renting)["idle_after_minutes"] is None


def test_where_nothing_holds_it_another_quantisation_is_named(renting: World) -> None:
    renting.says("GET /advisor", advice(offers=[fit("int4", "RTX 3060", 0.07)]))
    result = renting.run("deploy", "llama", "8b", "--yes")
    assert result.exit_code == 1
    assert "in int4 a RTX 3060 at $0.0700/h does: --quantisation int4" in result.stderr
    assert "Nothing was rented" in result.stderr


def test_gguf_goes_to_ollama_as_ollama_names_it(renting: World) -> None:
    gguf = advice(template="ollama", needs=[need("int4", 4.6)], offers=[fit("int4", "RTX 3060", 0.07)])
    renting.says("GET /advisor", gguf)
    renting.run("deploy", "bartowski/Llama-3.2-3B-Instruct-GGUF", "--yes", "--detach")
    assert sent(renting)["model"] == "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF"
    renting.run("deploy", "llama3.1:8b", "--yes", "--detach")
    assert (sent(renting)["model"], sent(renting)["models"]) == ("llama3.1:8b", ["llama3.1:8b"])


@pytest.mark.parametrize(
    ("words", "fields", "said"),
    [
        ("DeepSeek-R1-Distill-Llama-70B-AWQ", {"needs": [need("int4", 38)]}, "not where its files are"),
        ("acme-7b", {"repository": ""}, "not where its files are"),
        ("sdxl", {"template": "comfyui", "model": "SDXL"}, "makes pictures"),
        ("llama 8b --quantisation int8", {}, "saves no memory"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_rented(
    renting: World, words: str, fields: dict[str, Any], said: str
) -> None:
    renting.says("GET /advisor", advice(**fields))
    result = renting.run("deploy", *words.split(), "--yes")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not [asked for asked in renting.asked if asked.method == "POST"]


def test_a_program_that_keeps_ending_is_told_of_with_what_it_may_lack(renting: World) -> None:
    workload = {"state": "exited", "restarts": 5, "detail": "exit status 1"}
    view = machine(name="bot", spec={"health": "http:8000/health"}, heartbeat={"workload": workload})
    renting.says("GET /machines/bot", {"machine": view})
    result = renting.run("deploy", "llama", "8b", "--name", "bot", "--yes")
    assert result.exit_code == 1
    assert "ended 6 times: exit status 1" in result.stderr
    assert "Hugging Face token" in result.stderr
    assert "bot runs, and bills" in result.stderr


def test_a_model_that_takes_longer_than_is_waited_for_is_no_failure_of_the_machine(renting: World) -> None:
    renting.says("GET /machines/bot", {"machine": machine(name="bot")})
    problem_told = output(renting.run("deploy", "llama", "8b", "--name", "bot", "--wait", "0", "--json"))
    assert problem_told["code"] == "not_serving_yet"
    assert "it may serve later" in problem_told["safe"]
