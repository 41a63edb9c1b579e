"""Templates: what a user need not say to run a well-known program. A template fills only what was not said.

All of them keep what they download inside the workspace (`HF_HOME`, `OLLAMA_MODELS`, pip's prefix, …), not where
the programs would put it in the home. A snapshot carries the workspace and nothing else: a machine that wakes or moves
then restores its models from our own store and serves, and needs neither the hub it came from, nor its rate limits, nor
the token that a gated model was fetched with, and it runs the very files that it ran before.

All of them listen on loopback alone. Dumont opens no port of a machine but SSH: programs are reached through the
gateway, which asks for a token, or by `dumont ssh-config --install` and `ssh -L`. Jupyter, which hands a shell to
whoever reaches it, asks for a token of its own besides (kept in the workspace, mode 0600), as the gateway's token may
be given to others.

Images: vllm/vllm-openai is vLLM's own. v0.11.0 is pinned (CUDA 12.8, which many hosts have; later ones are built with
13): a machine that moves must find the same program. Its entrypoint is `vllm serve`, which Vast.ai's SSH mode replaces,
so that the command has it. ollama/ollama has no Python, without which there is no agent: python:3.12-slim is small, and
Ollama brings its own CUDA libraries. Jupyter's own images run as a user of theirs, and Vast.ai's SSH wants root:
PyTorch's image and `pip install jupyterlab`. ComfyUI publishes no image: its release, on PyTorch's.
"""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dumont.domain import advisor, known_models
from dumont.domain.advisor import Advice
from dumont.domain.errors import InvalidInput
from dumont.domain.known_models import Quantisation

VLLM_IMAGE = "vllm/vllm-openai:v0.11.0"
PYTHON_IMAGE = "python:3.12-slim"
PYTORCH_IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
OLLAMA_RELEASE = "https://github.com/ollama/ollama/releases/latest/download/ollama-linux-amd64.tar.zst"
COMFYUI_RELEASE = "https://github.com/Comfy-Org/ComfyUI/archive/refs/tags/v0.15.1.tar.gz"
DISK_GB_BESIDE_MODEL = 30.0
"""For the program, its caches and what else is written, besides the model's files."""

Fields = Mapping[str, Any]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a template makes a command of: what to load, under which names to serve it, where, and how."""

    model: str = ""
    names: tuple[str, ...] = ()
    port: int
    gpu_count: int = 1
    context: int | None = None
    quantisation: Quantisation | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """`fields` are of `MachineSpec`; `command` makes its `run`. `health` has PORT for the port."""

    name: str
    about: str
    image: str
    port: int
    health: str
    takes_model: bool
    min_cuda: float
    fields: dict[str, Any]
    command: Callable[[Wish], str]


# --- Commands, for /bin/sh in the workspace ----------------------------------------------------------------------

_CACHES = """export HF_HOME="$PWD/.cache/huggingface" TORCH_HOME="$PWD/.cache/torch" PATH="/opt/conda/bin:$PATH"
p="$PWD/.python"; v=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
export PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONPATH="$p/lib/python$v/site-packages" PATH="$p/bin:$PATH"
"""
"""For what pip installs, too, which counts what the image has as installed. `/opt/conda/bin`: an agent that came by SSH
has the login's PATH, and not the image's."""


def _vllm(wish: Wish) -> str:
    words = ["vllm", "serve", wish.model, "--host", "127.0.0.1", "--port", str(wish.port)]
    words += ["--served-model-name", *wish.names]
    if wish.gpu_count > 1:
        words += ["--tensor-parallel-size", str(wish.gpu_count)]
    if wish.context is not None:
        words += ["--max-model-len", str(wish.context)]
    if wish.quantisation == "int4" and known_models.quantisation_in(wish.model) is None:
        words += ["--quantization", "bitsandbytes"]  # weights become 4 bits as they are loaded
    return (
        'export HF_HOME="$PWD/.cache/huggingface" VLLM_CACHE_ROOT="$PWD/.cache/vllm" VLLM_NO_USAGE_STATS=1\n'
        f"exec {shlex.join(words)}\n"
    )


def _ollama(wish: Wish) -> str:
    # The model is fetched by a server on another port: whoever finds the real one open finds the model there.
    aside = wish.port + 1 if wish.port < 65535 else wish.port - 1
    model = shlex.quote(wish.model)
    copies = "".join(f'"$o" cp {model} {shlex.quote(name)}\n' for name in wish.names if name != wish.model)
    context = f" OLLAMA_CONTEXT_LENGTH={wish.context}" if wish.context is not None else ""
    return f"""set -e
export OLLAMA_MODELS="$PWD/.ollama/models" OLLAMA_KEEP_ALIVE=-1{context} OLLAMA_HOST=127.0.0.1:{aside}
o="$PWD/.ollama/program/bin/ollama"
if [ ! -x "$o" ]; then
rm -rf .ollama/new; mkdir -p .ollama/new
python3 -m pip install -q --target .ollama/python zstandard
PYTHONPATH=.ollama/python python3 -c 'import sys, tarfile, urllib.request, zstandard
with urllib.request.urlopen(sys.argv[1], timeout=60) as file:
    stream = zstandard.ZstdDecompressor().stream_reader(file)
    tarfile.open(fileobj=stream, mode="r|").extractall(".ollama/new", filter="tar")' {OLLAMA_RELEASE}
rm -rf .ollama/program; mv .ollama/new .ollama/program
fi
"$o" serve & s=$!
trap 'kill $s' EXIT
until "$o" list >/dev/null 2>&1; do kill -0 $s; sleep 1; done
"$o" show {model} >/dev/null 2>&1 || "$o" pull {model}
{copies}trap - EXIT; kill $s; wait $s || :
OLLAMA_HOST=127.0.0.1:{wish.port} exec "$o" serve
"""


def _comfyui(wish: Wish) -> str:
    return f"""set -e
{_CACHES}if [ ! -f ComfyUI/main.py ]; then
rm -rf .comfyui; mkdir .comfyui
python3 -c 'import sys, tarfile, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as file:
    tarfile.open(fileobj=file, mode="r|gz").extractall(".comfyui", filter="tar")' {COMFYUI_RELEASE}
mv .comfyui/* ComfyUI; rmdir .comfyui
fi
python3 -m pip install -q --prefix "$p" -r ComfyUI/requirements.txt
exec python3 ComfyUI/main.py --listen 127.0.0.1 --port {wish.port} --disable-auto-launch
"""


def _jupyter(wish: Wish) -> str:
    return f"""set -e
{_CACHES}mkdir -p .jupyter
[ -s .jupyter/token ] || (umask 077
python3 -c 'import secrets; print(secrets.token_hex(24), end="")' >.jupyter/new; mv .jupyter/new .jupyter/token)
export JUPYTER_TOKEN_FILE="$PWD/.jupyter/token" JUPYTER_CONFIG_DIR="$PWD/.jupyter"
python3 -c 'import jupyterlab' 2>/dev/null || python3 -m pip install -q --prefix "$p" jupyterlab
exec python3 -m jupyterlab --ip=127.0.0.1 --port={wish.port} --ServerApp.port_retries=0 --no-browser --allow-root \\
--ServerApp.root_dir="$PWD"
"""


def _pytorch(_wish: Wish) -> str:
    # It serves nothing: whatever is started by hand finds its caches in the workspace.
    return """mkdir -p .cache/huggingface .cache/torch ~/.cache
for d in huggingface torch; do [ -e ~/.cache/$d ] || ln -s "$PWD/.cache/$d" ~/.cache/$d; done
"""


# --- The templates -----------------------------------------------------------------------------------------------

_SERVER = {"restart": "always", "idle_after_minutes": 15.0, "stateless": True, "boot_timeout_seconds": 1200.0}
"""Nothing but a cache is in a model server's workspace: where there is no snapshot, an empty new host fetches it again.
Images of 10 GB take long to pull."""
_BENCH = {"snapshot_every_minutes": 60.0, "boot_timeout_seconds": 1200.0}
"""What a person works on: a host that dies takes an hour's work with it at most."""

TEMPLATES: tuple[Template, ...] = (
    Template(
        name="vllm", about="a model of huggingface.co by vLLM, in OpenAI's shape", image=VLLM_IMAGE, port=8000,
        # `/health` is 200 once the engine answers, hence once the model is loaded.
        health="http:PORT/health", takes_model=True, min_cuda=12.8, fields=_SERVER, command=_vllm,
    ),
    Template(
        name="ollama", about="a GGUF model by Ollama, in OpenAI's shape", image=PYTHON_IMAGE, port=11434,
        # "driver version 550 and newer" (Ollama's docs/gpu.mdx), which is CUDA 12.4.
        health="http:PORT/api/version", takes_model=True, min_cuda=12.4, fields=_SERVER, command=_ollama,
    ),
    Template(
        name="comfyui", about="ComfyUI: pictures and video by node graphs", image=PYTORCH_IMAGE, port=8188,
        # CUDA 12.8's libraries run on each driver of CUDA 12 (NVIDIA: minor version compatibility).
        health="http:PORT/system_stats", takes_model=False, min_cuda=12.0,
        fields=_BENCH | {"restart": "always", "idle_after_minutes": 30.0, "min_vram_gib": 12.0, "disk_gb": 80.0},
        command=_comfyui,
    ),
    Template(
        name="jupyter", about="JupyterLab with PyTorch, behind a token of its own", image=PYTORCH_IMAGE, port=8888,
        health="http:PORT/api", takes_model=False, min_cuda=12.0,
        fields=_BENCH | {"restart": "always", "idle_after_minutes": 60.0, "min_vram_gib": 8.0, "disk_gb": 40.0},
        command=_jupyter,
    ),
    Template(
        name="pytorch", about="PyTorch, to log in to; its caches lie in the workspace", image=PYTORCH_IMAGE, port=8000,
        health="", takes_model=False, min_cuda=12.0,
        fields=_BENCH | {"restart": "on-failure", "idle_after_minutes": 60.0, "min_vram_gib": 8.0, "disk_gb": 40.0},
        command=_pytorch,
    ),
)  # fmt: skip


def named(name: object) -> Template:
    """The template of a name. Raises `InvalidInput` with the nearest."""
    for template in TEMPLATES:
        if template.name == name:
            return template
    names = [template.name for template in TEMPLATES]
    near = difflib.get_close_matches(str(name).casefold(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise InvalidInput(f"there is no template {str(name)[:40]!r}", field="template", hint=hint)


def fill(
    name: str,
    said: Fields,
    *,
    model: str | None = None,
    context: int | None = None,
    quantisation: Quantisation | None = None,
) -> dict[str, Any]:
    """The fields of a machine's spec: those that were said, and the template's for those that were not. What was said
    as null was said. Raises `InvalidInput` for a model that is missing, or of no use here.

    What is filled in fits what was said: the health check and the command follow `model_port`, the check is no more
    than the port where the command is another, and nothing is asked of a host for an image that is another.
    """
    template = named(name)
    declared = said.get("models")
    names = tuple(str(n) for n in declared) if isinstance(declared, list | tuple) else ()
    model = model or (names[0] if names else None)
    if "run" not in said:
        check(template, model, context, quantisation)
    port = said.get("model_port", template.port)
    if not isinstance(port, int):
        return dict(said)  # it is no port, and will be refused as such with all other fields
    filled: dict[str, Any] = {"image": template.image, "model_port": port}
    if template.health:
        # Another command need not answer where the template's does.
        filled["health"] = f"port:{port}" if "run" in said else template.health.replace("PORT", str(port))
    if "image" not in said:
        filled["min_cuda"] = template.min_cuda
    filled |= template.fields
    wish = Wish(port=port)
    if template.takes_model and model is not None:
        wish, by_model = _for_model(model, names or (model,), port, said, context, quantisation)
        filled |= by_model
    filled["run"] = f"# the template {name}\n{template.command(wish)}"
    if said.get("gpu") is not None:
        filled.pop("min_vram_gib", None)  # whoever names a GPU has chosen its memory
    return {**filled, **said}


def check(template: Template, model: str | None, context: int | None, quantisation: Quantisation | None) -> None:
    """Whether a template can make a command of these. Raises `InvalidInput` for a model that is missing or of no use
    here, and for a quantisation that saves nothing."""
    if template.takes_model:
        if model is None:
            raise InvalidInput(f"the template {template.name} needs a model", field="model", hint="--model NAME")
        if template.name == "vllm" and quantisation == "int8" and known_models.quantisation_in(model) is None:
            raise InvalidInput(
                "vLLM turns weights into 8 bits only after it has loaded them at 16: that saves no memory",
                field="quantisation",
                hint="name a checkpoint that is in FP8 already, or take int4",
            )
        return
    for field, value in (("model", model), ("context", context), ("quantisation", quantisation)):
        if value is not None:
            raise InvalidInput(f"the template {template.name} takes no {field}", field=field)


def disk_gb(advice: Advice) -> float:
    """The disk to rent for a model: its files, with a tenth for what is written beside them, and the rest."""
    return float(math.ceil(DISK_GB_BESIDE_MODEL + 1.1 * advice.download_gb))


def for_advice(advice: Advice) -> Template:
    """The template that serves a model."""
    if advice.model.kind == "image":
        return named("comfyui")
    return named("ollama" if advice.gguf else "vllm")


def _for_model(
    model: str, names: tuple[str, ...], port: int, said: Fields, context: int | None, quantisation: Quantisation | None
) -> tuple[Wish, dict[str, Any]]:
    """What follows from a model: its command's wish, and the memory and disk that it takes, if its name tells."""
    gpu_count = said.get("gpu_count", 1)
    count = gpu_count if isinstance(gpu_count, int) else 1
    fields: dict[str, Any] = {"models": list(names), "disk_gb": 2 * DISK_GB_BESIDE_MODEL, "min_vram_gib": 16.0}
    try:
        advice = advisor.advise(model, context=context, quantisations=(quantisation or "fp16",))
    except InvalidInput as error:
        if error.field != "model":
            raise
    else:
        context = advice.context
        fields["disk_gb"] = disk_gb(advice)
        split = next((s for s in advice.needs[0].splits if s.gpu_count == count), None)
        if split is not None:
            fields["min_vram_gib"] = math.ceil(split.vram_gib * 10) / 10
    wish = Wish(model=model, names=names, port=port, gpu_count=count, context=context, quantisation=quantisation)
    return wish, fields
