"""A model from its name to its answer, on the local cloud: advice, the cheapest GPU, a real program, the official
client. The simulated hosts have no GPU for vLLM: a small server in OpenAI's shape stands in its place (`--run`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import openai
import pytest

from tests.end_to_end.cloud import Cloud, free_port, local_cloud
from tests.end_to_end.gateway_support import SERVER

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("deploy")) as running:
        yield running


def test_a_model_is_deployed_by_its_name_and_answers_the_official_client(cloud: Cloud) -> None:
    advised = cloud.http.get("/advisor", params={"model": "Llama-3.1-8B"}).json()["advice"]
    at_16_bits = [fit for fit in advised["offers"] if fit["quantisation"] == "fp16"]
    assert at_16_bits, "the market has GPUs of 24 GiB"
    port = free_port()
    deployed = cloud.cli(
        *("deploy", "Llama-3.1-8B", "--name", "bot", "--port", str(port), "--json"),
        *("--run", f"exec {sys.executable} {SERVER} {port} 1"),
    )  # fmt: skip
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    answer = json.loads(deployed.stdout)
    spec, offer = answer["machine"]["spec"], answer["machine"]["offer"]
    assert answer["fit"]["offer"]["id"] == at_16_bits[0]["offer"]["id"], "the cheapest"
    assert (offer["gpu"], offer.get("gpu_count", 1)) == (at_16_bits[0]["gpu"], at_16_bits[0]["gpu_count"])
    assert offer["vram_gib"] >= advised["needs"][0]["splits"][0]["vram_gib"]
    assert answer["machine"]["price_usd_per_hour"] <= spec["max_price_usd_per_hour"] < 1
    assert spec["image"].startswith("vllm/vllm-openai:")
    assert (spec["health"], spec["idle_after_minutes"], spec["stateless"]) == (f"port:{port}", 15.0, True)
    token = cloud.cli("gateway", "token", "bot").stdout.strip()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{cloud.port}/v1", api_key=token)
    assert [model.id for model in client.models.list()] == [LLAMA, "Llama-3.1-8B"]
    for model in (answer["model"], "Llama-3.1-8B"):
        said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
        assert said.choices[0].message.content
    assert cloud.cli("down", "bot", "--discard").returncode == 0
    assert cloud.live() == []


def test_a_provision_takes_a_template_and_what_was_said_wins(cloud: Cloud) -> None:
    asked = {"template": "vllm", "model": "Qwen/Qwen2.5-7B-Instruct", "context": 4096, "gpu": "RTX 4090", "disk_gb": 33}
    answer = cloud.http.post("/provision", json={"name": "qwen", "run": "exec sleep 60", **asked})
    assert answer.status_code == 202, answer.text
    spec = answer.json()["machine"]["spec"]
    assert (spec["run"], spec["disk_gb"], spec["gpu"]) == ("exec sleep 60", 33, "RTX 4090")
    assert (spec["models"], spec["model_port"], spec["min_cuda"]) == (["Qwen/Qwen2.5-7B-Instruct"], 8000, 12.8)
    cloud.ended(answer.json()["operation"])
    cloud.ended(cloud.down("qwen"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"template": "vlm"}, "template"),
        ({"template": "vllm"}, "model"),
        ({"template": "vllm", "model": "a b; rm -rf /"}, "model"),
        ({"template": "vllm", "models": ["a", "$(reboot)"]}, "models[1]"),
        ({"template": "vllm", "model": "x-7b", "context": 0}, "context"),
        ({"template": "vllm", "model": "x-7b", "model_port": "many"}, "model_port"),
        ({"model": "x-7b", "gpu": "L4"}, "model"),
    ],
)
def test_a_template_that_cannot_be_is_refused_by_its_field(cloud: Cloud, body: dict[str, object], field: str) -> None:
    answer = cloud.http.post("/provision", json={"name": "no", **body})
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert cloud.http.get("/machines/no").status_code == 404


def test_advice_follows_the_filters_and_names_what_it_cannot_read(cloud: Cloud) -> None:
    def ask(**parameters: object) -> dict[str, object]:
        answer = cloud.http.get("/advisor", params={name: str(value) for name, value in parameters.items()})
        view: dict[str, object] = answer.json()
        return view

    cheap = cloud.http.post("/advisor", json={"model": "llama 70b", "max_price_usd_per_hour": 3.0}).json()["advice"]
    assert cheap["offers"]
    for fit in cheap["offers"]:
        assert fit["usd_per_hour"] <= min(3.0, fit["race_usd_per_hour"])
        assert fit["usd_per_day"] == pytest.approx(24 * fit["usd_per_hour"], abs=1e-3)
        assert fit["vram_gib"] >= fit["needs_vram_gib"]
        assert fit["gpu"] not in ("Tesla V100", "Tesla T4"), "vLLM does not run bfloat16 on them"
        split = next(n for n in cheap["needs"] if n["quantisation"] == fit["quantisation"])["splits"]
        assert fit["gpu_count"] in [s["gpu_count"] for s in split]
    assert ask(model="something")["field"] == "model"
    assert ask(model="llama 7b", gpu="RTX 9999")["field"] == "gpu"
    assert ask(model="llama 7b", quantisation="int3")["field"] == "quantisation"
    assert ask(model="llama 7b", context=5000)["field"] == "context"
