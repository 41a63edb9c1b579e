"""How much GPU memory a model needs, and which GPUs hold it: arithmetic alone.

Weights: parameters × bits ÷ 8. At 16 bits that is what the files have (Llama 3.1 8B: 8.03 × 2 = 16.06 GB = 15.0 GiB).
Quantised checkpoints keep embedding and head at 16 bits, and every other weight at 8 bits (FP8 and INT8: RedHatAI's
Meta-Llama-3-8B-Instruct-FP8 has 9.09 GB, this says 9.08), or at 4 bits with a 16-bit scale and a 4-bit zero point for
each 128 (AWQ, GPTQ): 4.16, counted as 4.25 for what else a file has. GGUF's Q4_K_M, 4.9 bits for all alike, comes out
a little smaller than that for models of up to 10 billion and a little larger above: `GGUF_BITS`.

KV cache: 2 × layers × key-value heads × head size × context × requests at once × bytes of a value (Kwon et al., 2023,
"Efficient Memory Management for Large Language Model Serving with PagedAttention", section 3: its OPT-13B example,
2 × 5120 × 40 × 2 bytes, is this formula's 800 KB a token). Sliding windows are not subtracted: what is in doubt counts.

Overhead: the CUDA context, the activations of one step and CUDA graphs, `OVERHEAD_GIB` on each GPU: an estimate of
ours, not measured.
vLLM takes 0.9 of a GPU's memory (`--gpu-memory-utilization`, its documented default) for all three together.

Tensor parallelism: weights and cache are parted by the number of GPUs; it must divide the attention heads, and divide
the key-value heads or be a multiple of them (vLLM refuses anything else). With more GPUs than key-value heads, these
are copied, and the cache of each GPU shrinks no further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from dumont.domain import known_models
from dumont.domain.errors import InvalidInput
from dumont.domain.known_models import Model, Quantisation

GIB = float(1 << 30)
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
BITS: dict[Quantisation, float] = {"fp16": 16.0, "int8": 8.0, "int4": 4.25}
"""Of each weight outside embedding and head."""
GGUF_BITS: dict[Quantisation, float] = {"fp16": 16.0, "int8": 8.5, "int4": 4.9}
"""Of every weight alike: GGUF's F16, Q8_0 (32 weights and a 16-bit scale) and Q4_K_M, as llama.cpp states them."""
KV_BYTES = 2.0
NAMES_ROUND_DOWN = 1.1
"""Qwen2.5 7B has 7.6 billion, Llama 3.2 3B 3.2."""
OVERHEAD_GIB = 1.5
USABLE_SHARE = 0.9
GPU_COUNTS = (1, 2, 4, 8)
CONTEXT_TOKENS = 8192
"""What is reckoned with where nobody says, or the model's own maximum if that is less."""
CONTEXT_TOKENS_UNKNOWN = 4096
"""The same for a model whose maximum is not known: nearly every one has as much."""
SMALLEST_SHARE_GIB = 8.0
"""A split that needs less than this on each GPU only adds GPUs: every one that is rented out has as much."""

Context = Annotated[int, Meta(ge=1, le=10_000_000)]
Requests = Annotated[int, Meta(ge=1, le=10_000)]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A model over so many GPUs: the memory that each must have at least, in GiB."""

    gpu_count: int
    vram_gib: float


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs at one quantisation, GiB on all GPUs together; `need_gib` is the sum, on one GPU."""

    quantisation: Quantisation
    weights_gib: float
    kv_cache_gib: float
    overhead_gib: float
    need_gib: float
    splits: tuple[Split, ...]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What was understood by a name and what that needs. `assumed` says in words what is not known for sure."""

    model: Model
    known: bool
    """Whether the figures are of the table; otherwise they follow from the size in the name."""
    context: int
    requests: int
    gguf: bool
    download_gb: float
    """What is fetched: the files at 16 bits, unless the name says that they are quantised."""
    assumed: tuple[str, ...]
    needs: tuple[Need, ...]

    def need(self, quantisation: Quantisation) -> Need:
        """That at one quantisation."""
        return next(need for need in self.needs if need.quantisation == quantisation)


def is_gguf(name: str) -> bool:
    """Whether a name is one that Ollama serves: a GGUF repository, or a name with a tag, "llama3.1:8b"."""
    folded = name.casefold()
    return "gguf" in folded or folded.startswith("hf.co/") or (":" in folded and "/" not in folded.split(":")[-1])


def understood(name: str) -> tuple[Model, bool, tuple[str, ...]]:
    """The model that a name means, whether it is of the table, and what was assumed. Raises `InvalidInput` for a name
    that says neither a known model nor a size."""
    model, assumed = known_models.find(name)
    if model is not None:
        return model, True, assumed
    size = known_models.size_in(name)
    near = known_models.near(name)
    if size is None:
        raise InvalidInput(
            f"{name[:80]!r} is no model that is known here, and its name states no size",
            field="model",
            hint=f"do you mean {' or '.join(near[:6])}?" if near else "give a name with its size: my-model-7B",
        )
    return (
        _like_others(name, size * NAMES_ROUND_DOWN),
        False,
        (
            f"{name} is not in the table: {size:g} billion parameters by its name, and a tenth, as names round down",
            "its cache is counted as the largest of the known models near its size",
        ),
    )


def _like_others(name: str, size: float) -> Model:
    """A model of so many billions: of the known ones nearest in size, the one whose cache is largest lends its shape.
    Those with a cache for each head (Llama 2's) are left out: none has been made since 2024."""
    grouped = [m for m in known_models.MODELS if m.kind == "text" and m.kv_heads < m.heads]
    nearest = sorted(grouped, key=lambda m: abs(math.log(m.parameters / size)))[:4]
    like = max(nearest, key=lambda m: m.layers * m.kv_heads * m.head_size)
    share = min(like.embedding_parameters / like.parameters, 1.0)
    return Model(
        name=name,
        repository=name if "/" in name else "",
        parameters=size,
        layers=like.layers,
        heads=like.heads,
        kv_heads=like.kv_heads,
        head_size=like.head_size,
        hidden_size=1000,
        vocabulary=round(share * size * 1e6),
        tied=True,
    )


def weights_gib(model: Model, quantisation: Quantisation, *, gguf: bool = False) -> float:
    """The weights alone."""
    if gguf:
        return model.parameters * 1e9 * GGUF_BITS[quantisation] / 8 / GIB
    kept = model.embedding_parameters
    return (kept * 16.0 + (model.parameters - kept) * BITS[quantisation]) * 1e9 / 8 / GIB


def kv_cache_gib(model: Model, context: int, requests: int) -> float:
    """The cache of so many requests at once, each of `context` tokens; none for image models."""
    values = 2.0 * model.layers * model.kv_heads * model.head_size * context * requests
    return values * KV_BYTES / GIB


def may_split(model: Model, gpu_count: int) -> bool:
    """Whether tensor parallelism can part a model over so many GPUs."""
    if gpu_count == 1:
        return True
    if model.kind != "text" or model.heads % gpu_count:
        return False
    return model.kv_heads % gpu_count == 0 or gpu_count % model.kv_heads == 0


def need(model: Model, quantisation: Quantisation, *, context: int, requests: int, gguf: bool = False) -> Need:
    """What a model needs at one quantisation."""
    weights = weights_gib(model, quantisation, gguf=gguf)
    cache = kv_cache_gib(model, context, requests)
    overhead = OVERHEAD_GIB + model.activations_gib
    splits: list[Split] = []
    for count in GPU_COUNTS:
        # Ollama parts a model by layers, which any number of GPUs may share.
        if not (may_split(model, count) or (gguf and count <= model.layers)):
            continue
        cache_parts = count if gguf else min(count, max(model.kv_heads, 1))
        each = (weights / count + cache / cache_parts + overhead) / USABLE_SHARE
        if splits and each < SMALLEST_SHARE_GIB:
            break
        splits.append(Split(gpu_count=count, vram_gib=each))
    return Need(
        quantisation=quantisation,
        weights_gib=weights,
        kv_cache_gib=cache,
        overhead_gib=overhead,
        need_gib=weights + cache + overhead,
        splits=tuple(splits),
    )


def default_context(model: Model) -> int:
    """The context in tokens that is reckoned with, and served, where nobody says."""
    return min(CONTEXT_TOKENS, model.max_context) if model.max_context else CONTEXT_TOKENS_UNKNOWN


def advise(
    name: str,
    *,
    context: int | None = None,
    requests: int = 1,
    quantisations: Sequence[Quantisation] = QUANTISATIONS,
) -> Advice:
    """What a model needs at each quantisation. A checkpoint that is quantised already is what its name says, whatever
    is asked. Raises `InvalidInput` for a name that tells nothing, or a context longer than the model's."""
    model, known, assumed = understood(name)
    tokens = context if context is not None else default_context(model)
    if model.kind == "image":
        tokens = 0
    elif model.max_context and tokens > model.max_context:
        raise InvalidInput(f"{model.name} has a context of at most {model.max_context} tokens", field="context")
    kept = known_models.quantisation_in(name)
    gguf = is_gguf(name)
    if gguf and kept is None:
        kept, assumed = (
            "int4",
            (*assumed, "its weights are counted as Q4_K_M, which Ollama takes where a name says none"),
        )
    if context is None and model.kind == "text":
        assumed = (*assumed, f"a context of {tokens} tokens, and {requests} at once")
    shown = (kept,) if kept is not None else tuple(quantisations)
    return Advice(
        model=model,
        known=known,
        context=tokens,
        requests=requests,
        gguf=gguf,
        download_gb=weights_gib(model, kept or "fp16", gguf=gguf) * GIB / 1e9,
        assumed=assumed,
        needs=tuple(need(model, q, context=tokens, requests=requests, gguf=gguf) for q in shown),
    )


# --- Which GPUs --------------------------------------------------------------------------------------------------

_BEFORE_AMPERE = ("gtx ", "rtx 20", "q rtx", "titan", "tesla")


def serves(gpu: str) -> bool:
    """Whether a GPU computes in bfloat16, in which nearly all models are published: Ampere (compute capability 8.0) and
    later. vLLM refuses such a model on an older one."""
    return not gpu.casefold().startswith(_BEFORE_AMPERE)
