"""Templates: each makes a machine that can be, fills only what was not said, and its command says what it should."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import templates
from dumont.domain.advisor import advise
from dumont.domain.errors import InvalidInput
from dumont.domain.specs import MachineSpec, ModelName
from dumont.domain.templates import TEMPLATES, Template, fill

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
EACH = pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
names = st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z")


def filled(template: Template, **said: Any) -> dict[str, Any]:
    return fill(template.name, said, model=LLAMA if template.takes_model else None)


def spec(fields: dict[str, Any]) -> MachineSpec:
    return msgspec.convert(fields, MachineSpec)


@EACH
def test_each_template_makes_a_machine_that_can_be(template: Template) -> None:
    machine = spec(filled(template))
    assert machine.image == template.image
    assert machine.model_port == template.port
    assert machine.min_vram_gib, "a GPU need not be named"
    assert machine.min_cuda == template.min_cuda
    assert machine.idle_after_minutes
    assert machine.models == ((LLAMA,) if template.takes_model else ())
    assert subprocess.run(["/bin/sh", "-n", "-c", machine.run]).returncode == 0
    assert f"the template {template.name}" in machine.run.splitlines()[0]


@EACH
def test_what_was_said_wins_over_each_template(template: Template) -> None:
    said: dict[str, Any] = {
        "image": "mine", "run": "serve", "health": "command:true", "model_port": 9, "restart": "never",
        "disk_gb": 99.0, "min_vram_gib": 3.0, "min_cuda": 11.0, "idle_after_minutes": None, "stateless": False,
        "snapshot_every_minutes": 7.0, "boot_timeout_seconds": 5.0, "models": ["m"],
    }  # fmt: skip
    assert filled(template, **said) == said
    assert spec(filled(template, **said)).idle_after_minutes is None, "never, since it was said"


@EACH
@given(data=st.data())
def test_any_field_that_was_said_stays_as_it_was(template: Template, data: st.DataObject) -> None:
    defaults = msgspec.to_builtins(MachineSpec(gpu="L4"))
    said = {name: defaults[name] for name in data.draw(st.sets(st.sampled_from(sorted(defaults))))}
    result = fill(template.name, said, model="acme/x-7b" if template.takes_model else None)
    assert {name: result[name] for name in said} == said
    spec(result)


@EACH
def test_nothing_listens_to_the_world(template: Template) -> None:
    run = spec(filled(template)).run
    assert "0.0.0.0" not in run  # noqa: S104 - that it is not there
    assert not template.health or "127.0.0.1" in run


@EACH
def test_what_is_fetched_lies_in_the_workspace(template: Template) -> None:
    run = spec(filled(template)).run
    assert '"$PWD/.cache/huggingface"' in run or 'OLLAMA_MODELS="$PWD/.ollama/models"' in run or ".cache/$d" in run


def test_health_and_command_follow_the_port() -> None:
    machine = spec(fill("vllm", {"model_port": 9100}, model=LLAMA))
    assert machine.health == "http:9100/health"
    assert "--port 9100 " in machine.run


def test_another_image_or_command_is_asked_nothing_for_the_templates_sake() -> None:
    assert "min_cuda" not in fill("vllm", {"image": "mine"}, model=LLAMA)
    assert fill("vllm", {"run": "serve"}, model=LLAMA)["health"] == "port:8000"
    assert "health" not in fill("pytorch", {"run": "train"})
    assert "min_vram_gib" not in fill("jupyter", {"gpu": "RTX 3060"}), "whoever names a GPU has chosen its memory"


def test_vllm_is_told_what_to_serve_and_how() -> None:
    said = {"gpu_count": 4, "models": ["big", "llama"]}
    machine = spec(fill("vllm", said, model="meta-llama/Llama-3.1-70B-Instruct", context=4096, quantisation="int4"))
    words = shlex.split(machine.run.splitlines()[-1])
    assert words[:4] == ["exec", "vllm", "serve", "meta-llama/Llama-3.1-70B-Instruct"]
    options = " ".join(words)
    assert "--served-model-name big llama " in options
    assert "--tensor-parallel-size 4" in options
    assert "--max-model-len 4096" in options
    assert "--quantization bitsandbytes" in options
    ready = spec(fill("vllm", {}, model="acme/Llama-3.1-8B-AWQ", quantisation="int4"))
    assert "--quantization" not in ready.run, "vLLM reads from the checkpoint how it is quantised"


def test_the_memory_and_disk_of_a_known_model_are_reckoned() -> None:
    one, two = (spec(fill("vllm", {"gpu_count": n}, model=LLAMA)) for n in (1, 2))
    assert one.min_vram_gib == pytest.approx(advise(LLAMA).need("fp16").splits[0].vram_gib, abs=0.1)
    assert (two.min_vram_gib or 0) < (one.min_vram_gib or 0)
    assert one.disk_gb > 16.06 + templates.DISK_GB_BESIDE_MODEL
    assert spec(fill("vllm", {}, model="acme/nobody-knows")).min_vram_gib == 16.0


def test_eight_bits_are_refused_where_they_save_nothing() -> None:
    with pytest.raises(InvalidInput) as refused:
        fill("vllm", {}, model=LLAMA, quantisation="int8")
    assert refused.value.field == "quantisation"
    assert fill("vllm", {}, model="RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", quantisation="int8")


@pytest.mark.parametrize(
    ("name", "said", "options", "field"),
    [
        ("vlm", {}, {}, "template"),
        ("vllm", {}, {}, "model"),
        ("jupyter", {}, {"model": "x"}, "model"),
        ("pytorch", {}, {"context": 5}, "context"),
        ("vllm", {}, {"model": "llama-2-7b", "context": 5000}, "context"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, said: dict[str, Any], options: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fill(name, said, **options)
    assert refused.value.field == field


def test_a_misspelled_template_is_suggested() -> None:
    with pytest.raises(InvalidInput) as refused:
        templates.named("vlm")
    assert refused.value.hint == "did you mean vllm?"


@given(names, names)
def test_a_models_name_stays_one_word_in_each_command(model: str, alias: str) -> None:
    assert msgspec.convert(model, ModelName) == model
    words = shlex.split(fill("vllm", {"models": [alias]}, model=model)["run"].splitlines()[-1])
    assert words[3] == model
    assert words[words.index("--served-model-name") + 1] == alias
    assert f" pull {shlex.quote(model)}\n" in fill("ollama", {}, model=model)["run"]


# --- Commands that really run ---


def program(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)
    return file


def run_in(workspace: Path, run: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    home = workspace.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(
        ["/bin/sh", "-c", run], cwd=workspace, env=environment, capture_output=True, text=True, timeout=30
    )


def test_vllm_gets_its_words_and_its_cache(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    program(tmp_path / "bin", "vllm", 'echo "$HF_HOME"; for word; do echo "$word"; done')
    told = run_in(workspace, fill("vllm", {}, model=LLAMA)["run"], path=tmp_path / "bin").stdout.splitlines()
    assert told[0] == str(workspace / ".cache/huggingface")
    assert told[1:3] == ["serve", LLAMA]


OLLAMA = """
echo "$OLLAMA_HOST $*" >>told
case "$1" in
serve) case "$OLLAMA_HOST" in *:11435) : >up; exec sleep 60;; *) exit 0;; esac;;
list) [ -e up ];;
show) [ -e "has-$2" ];;
pull) : >"has-$2";;
esac
"""


def test_ollama_opens_its_port_only_once_the_model_is_there_and_fetches_it_once(tmp_path: Path) -> None:
    program(tmp_path, ".ollama/program/bin/ollama", OLLAMA)
    run = fill("ollama", {"models": ["llama3.1:8b", "llama"]}, model="llama3.1:8b")["run"]
    for _ in range(2):
        assert run_in(tmp_path, run).returncode == 0
        (tmp_path / "up").unlink()
    told = [line for line in (tmp_path / "told").read_text().splitlines() if not line.endswith(" list")]
    aside, real = "127.0.0.1:11435", "127.0.0.1:11434"
    first = [
        f"{aside} serve",
        f"{aside} show llama3.1:8b",
        f"{aside} pull llama3.1:8b",
        f"{aside} cp llama3.1:8b llama",
    ]
    again = [line for line in first if " pull " not in line]
    assert sorted(told[:5]) == sorted([*first, f"{real} serve"])
    assert sorted(told[5:]) == sorted([*again, f"{real} serve"])
    assert told[4] == told[-1] == f"{real} serve"


def test_ollama_that_cannot_fetch_ends_and_leaves_nothing_running(tmp_path: Path) -> None:
    program(tmp_path, ".ollama/program/bin/ollama", OLLAMA.replace('pull) : >"has-$2"', "pull) exit 3"))
    ended = run_in(tmp_path, fill("ollama", {}, model="llama3.1:8b")["run"])
    assert ended.returncode == 3, "its output is closed, too: no server is left that holds it open"


def test_jupyter_keeps_its_token_to_itself_and_from_one_start_to_the_next(tmp_path: Path) -> None:
    python = program(tmp_path / "bin", "python3", 'case "$*" in *jupyterlab*) env | grep JUPYTER; exit 0;; esac\n'
                     'exec /usr/bin/env -i PATH="$REAL" python3 "$@"\n')  # fmt: skip
    python.write_text(python.read_text().replace("$REAL", os.environ["PATH"]))
    run = fill("jupyter", {})["run"]
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    told = run_in(workspace, run, path=tmp_path / "bin").stdout
    token = workspace / ".jupyter/token"
    assert f"JUPYTER_TOKEN_FILE={token}" in told
    first = token.read_text()
    assert len(first) == 48
    assert first == first.strip(), "Jupyter takes the file as it is"
    assert token.stat().st_mode & 0o777 == 0o600
    assert first not in run
    run_in(workspace, run, path=tmp_path / "bin")
    assert token.read_text() == first


def test_pytorch_puts_the_caches_of_whatever_runs_into_the_workspace(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    run = fill("pytorch", {})["run"]
    assert run_in(workspace, run).returncode == run_in(workspace, run).returncode == 0
    assert (tmp_path / "home/.cache/huggingface").resolve() == workspace / ".cache/huggingface"
