"""Well-known models with the figures of their own config.json, and the finding of one by a name as people write it.

Layers, heads, head size, hidden size, vocabulary and context are `num_hidden_layers`, `num_attention_heads`,
`num_key_value_heads`, `head_dim` (else hidden size ÷ heads), `hidden_size`, `vocab_size`, `tie_word_embeddings` and
`max_position_embeddings` in each repository's config.json on huggingface.co; parameters are the count that its model
page states, which follows from these figures (a test computes it). As of `AS_OF`.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec.structs import replace

AS_OF = "2026-11-22"

Kind = Literal["text", "image"]
Quantisation = Literal["fp16", "int8", "int4"]


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model. `parameters` are billions, all experts of a mixture counted: each lies in memory. `max_context` is in
    tokens. An image model has no heads and no cache; its `activations_gib` are what one picture at a time takes."""

    name: str
    repository: str = ""
    """On huggingface.co, the variant that chats; "" where only a size is known."""
    kind: Kind = "text"
    parameters: float
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    hidden_size: int = 0
    vocabulary: int = 0
    tied: bool = False
    """Whether the embedding and the head are one matrix."""
    max_context: int = 0
    activations_gib: float = 0.0
    gated: bool = False
    """Whether its files are given only to those who accepted its terms: the machine needs a token of theirs."""
    also: tuple[str, ...] = ()
    """Other names of it."""

    @property
    def embedding_parameters(self) -> float:
        """Billions in the embedding and the head, which quantised checkpoints keep at 16 bits."""
        return self.vocabulary * self.hidden_size * (1 if self.tied else 2) / 1e9


def _text(
    name: str, repository: str, parameters: float, shape: str, max_context: int, *, tied: bool = False,
    gated: bool = False, also: tuple[str, ...] = (),
) -> Model:  # fmt: skip
    """`shape`: layers, heads, key-value heads, head size, hidden size, vocabulary."""
    layers, heads, kv_heads, head_size, hidden_size, vocabulary = (int(part) for part in shape.split())
    return Model(
        name=name, repository=repository, parameters=parameters, layers=layers, heads=heads, kv_heads=kv_heads,
        head_size=head_size, hidden_size=hidden_size, vocabulary=vocabulary, tied=tied, max_context=max_context,
        gated=gated, also=also,
    )  # fmt: skip


_L8, _L70 = "32 32 8 128 4096 128256", "80 64 8 128 8192 128256"
_Q7, _Q14, _Q32 = "28 28 4 128 3584 152064", "48 40 8 128 5120 152064", "64 40 8 128 5120 152064"

MODELS: tuple[Model, ...] = (
    _text("Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct", 8.03, _L8, 131072, gated=True, also=("llama 3 8b",)),
    _text("Llama 3.1 70B", "meta-llama/Llama-3.1-70B-Instruct", 70.55, _L70, 131072, gated=True,
          also=("llama 3 70b", "llama 70b")),
    _text("Llama 3.3 70B", "meta-llama/Llama-3.3-70B-Instruct", 70.55, _L70, 131072, gated=True),
    _text("Llama 3.1 405B", "meta-llama/Llama-3.1-405B-Instruct", 405.85, "126 128 8 128 16384 128256", 131072,
          gated=True),
    _text("Llama 3.2 1B", "meta-llama/Llama-3.2-1B-Instruct", 1.24, "16 32 8 64 2048 128256", 131072, tied=True,
          gated=True),
    _text("Llama 3.2 3B", "meta-llama/Llama-3.2-3B-Instruct", 3.21, "28 24 8 128 3072 128256", 131072, tied=True,
          gated=True),
    _text("Llama 2 7B", "meta-llama/Llama-2-7b-chat-hf", 6.74, "32 32 32 128 4096 32000", 4096, gated=True),
    _text("Llama 2 13B", "meta-llama/Llama-2-13b-chat-hf", 13.02, "40 40 40 128 5120 32000", 4096, gated=True),
    _text("Llama 2 70B", "meta-llama/Llama-2-70b-chat-hf", 68.98, "80 64 8 128 8192 32000", 4096, gated=True),
    _text("Qwen2.5 0.5B", "Qwen/Qwen2.5-0.5B-Instruct", 0.494, "24 14 2 64 896 151936", 32768, tied=True),
    _text("Qwen2.5 1.5B", "Qwen/Qwen2.5-1.5B-Instruct", 1.54, "28 12 2 128 1536 151936", 32768, tied=True),
    _text("Qwen2.5 3B", "Qwen/Qwen2.5-3B-Instruct", 3.09, "36 16 2 128 2048 151936", 32768, tied=True),
    _text("Qwen2.5 7B", "Qwen/Qwen2.5-7B-Instruct", 7.62, _Q7, 32768),
    _text("Qwen2.5 14B", "Qwen/Qwen2.5-14B-Instruct", 14.77, _Q14, 32768),
    _text("Qwen2.5 32B", "Qwen/Qwen2.5-32B-Instruct", 32.76, _Q32, 32768),
    _text("Qwen2.5 72B", "Qwen/Qwen2.5-72B-Instruct", 72.71, "80 64 8 128 8192 152064", 32768),
    _text("Qwen3 4B", "Qwen/Qwen3-4B", 4.02, "36 32 8 128 2560 151936", 40960, tied=True),
    _text("Qwen3 8B", "Qwen/Qwen3-8B", 8.19, "36 32 8 128 4096 151936", 40960),
    _text("Qwen3 14B", "Qwen/Qwen3-14B", 14.77, "40 40 8 128 5120 151936", 40960),
    _text("Qwen3 32B", "Qwen/Qwen3-32B", 32.76, "64 64 8 128 5120 151936", 40960),
    _text("Qwen3 30B A3B", "Qwen/Qwen3-30B-A3B", 30.53, "48 32 4 128 2048 151936", 40960, also=("qwen3 30b",)),
    _text("Mistral 7B", "mistralai/Mistral-7B-Instruct-v0.3", 7.25, "32 32 8 128 4096 32768", 32768, gated=True),
    _text("Mixtral 8x7B", "mistralai/Mixtral-8x7B-Instruct-v0.1", 46.70, "32 32 8 128 4096 32000", 32768, gated=True),
    _text("Mixtral 8x22B", "mistralai/Mixtral-8x22B-Instruct-v0.1", 140.63, "56 48 8 128 6144 32768", 65536,
          gated=True),
    _text("Gemma 2 2B", "google/gemma-2-2b-it", 2.61, "26 8 4 256 2304 256000", 8192, tied=True, gated=True),
    _text("Gemma 2 9B", "google/gemma-2-9b-it", 9.24, "42 16 8 256 3584 256000", 8192, tied=True, gated=True,
          also=("gemma 9b",)),
    _text("Gemma 2 27B", "google/gemma-2-27b-it", 27.23, "46 32 16 128 4608 256000", 8192, tied=True, gated=True,
          also=("gemma 27b",)),
    _text("Phi-3 mini", "microsoft/Phi-3-mini-4k-instruct", 3.82, "32 32 32 96 3072 32064", 4096,
          also=("phi 3 mini 4k", "phi 3 4b", "phi 3", "phi 3 3.8b")),
    _text("Phi-3 medium", "microsoft/Phi-3-medium-4k-instruct", 13.96, "40 40 10 128 5120 32064", 4096,
          also=("phi 3 medium 4k", "phi 3 14b")),
    _text("Phi-4", "microsoft/phi-4", 14.66, "40 40 10 128 5120 100352", 16384, also=("phi 4 14b",)),
    _text("DeepSeek R1 Distill Qwen 1.5B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.78,
          "28 12 2 128 1536 151936", 131072, also=("deepseek r1 1.5b",)),
    _text("DeepSeek R1 Distill Qwen 7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62, _Q7, 131072,
          also=("deepseek r1 7b",)),
    _text("DeepSeek R1 Distill Llama 8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8.03, _L8, 131072,
          also=("deepseek r1 8b",)),
    _text("DeepSeek R1 Distill Qwen 14B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", 14.77, _Q14, 131072,
          also=("deepseek r1 14b",)),
    _text("DeepSeek R1 Distill Qwen 32B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32.76, _Q32, 131072,
          also=("deepseek r1 32b",)),
    _text("DeepSeek R1 Distill Llama 70B", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 70.55, _L70, 131072,
          also=("deepseek r1 70b",)),
    # Image models: transformer or U-Net, text encoders and VAE together, as one pipeline holds them. SDXL: its single
    # checkpoint file has 6.94 GB at 16 bits. FLUX: flux1-dev.safetensors 23.8 GB, t5xxl_fp16 9.79 GB, CLIP-L 0.25 GB,
    # VAE 0.17 GB. What one 1024 × 1024 picture takes besides is an estimate, rounded up.
    Model(name="SDXL", repository="stabilityai/stable-diffusion-xl-base-1.0", kind="image", parameters=3.47,
          activations_gib=3.0, also=("stable diffusion xl", "sdxl base", "sd xl")),
    Model(name="FLUX.1 dev", repository="black-forest-labs/FLUX.1-dev", kind="image", parameters=17.0,
          activations_gib=3.0, gated=True, also=("flux", "flux 1", "flux dev")),
    Model(name="FLUX.1 schnell", repository="black-forest-labs/FLUX.1-schnell", kind="image", parameters=17.0,
          activations_gib=3.0, also=("flux schnell",)),
)  # fmt: skip

# What a name says besides which model it is: who packed it, for what use, how it is quantised.
_DECORATION = frozenset(
    {
        *("instruct", "it", "chat", "hf", "base", "meta", "gguf", "awq", "gptq", "bnb", "4bit", "8bit", "fp8", "fp16"),
        *("bf16", "int4", "int8", "w4a16", "w8a8", "w8a16", "dynamic", "quantized", "v0.1", "v0.2", "v0.3", "4k"),
        *("latest", "text", "nf4", "marlin", "block", "model", "ud"),
    }
)
_GGUF_LEVEL = re.compile(
    r"(?<![a-z0-9])i?q(?P<bits>[2-8])(?:[_-](?:k|0|1|xxs|xs|nl|s|m|xl|l)(?![a-z0-9]))*(?![a-z0-9])"
)
_PIECE = re.compile(r"[a-z]+|\d+x\d+(?:\.\d+)?b?|\d+(?:\.\d+)?[bm](?![a-z])|\d+(?:\.\d+)*")
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(?P<experts>\d+)x)?(?P<count>\d+(?:\.\d+)?)(?P<unit>[bm])(?![a-z0-9])")


def words_of(name: str) -> tuple[str, ...]:
    """What a name says of which model it is: "meta-llama/Llama-3.1-8B-Instruct" → llama, 3.1, 8b."""
    text = _GGUF_LEVEL.sub("", name.casefold().split("/")[-1]).replace("_", "-")
    plain = []
    for part in re.split(r"[-\s:@+]+", text):
        if not part or part in _DECORATION:
            continue
        plain += [piece for piece in _PIECE.findall(part) if piece not in _DECORATION]
    return tuple(plain)


def size_in(name: str) -> float | None:
    """Billions of parameters that a name states: "…-7B-…" → 7.0, "8x7b" → 56.0, "350m" → 0.35. None: it states none."""
    found = list(_SIZE.finditer(name.casefold().replace("_", "-")))
    if not found:
        return None
    match = found[0]  # "30B-A3B": the whole comes first, then what is active
    billions = float(match["count"]) / (1000.0 if match["unit"] == "m" else 1.0)
    return billions * float(match["experts"] or 1) or None


def quantisation_in(name: str) -> Quantisation | None:
    """How the weights of a checkpoint are kept, by its name; None where the name says nothing."""
    level = _GGUF_LEVEL.search(name.casefold())
    if level is not None:
        # Five and six bits lie between: what is in doubt is counted as the larger.
        return "int4" if int(level["bits"]) <= 4 else "int8"
    for part in re.split(r"[-\s:/@+.]+", name.casefold()):
        if part in ("awq", "gptq", "4bit", "int4", "w4a16", "nf4", "bnb"):
            return "int4"
        if part in ("fp8", "8bit", "int8", "w8a8", "w8a16"):
            return "int8"
    return None


def find(name: str) -> tuple[Model | None, tuple[str, ...]]:
    """The model of the table that a name means, and what was assumed to come to that. None: none of them.

    An exact name first, then the same words, then all words given within one model's ("llama 7b" is Llama 2 7B, the
    only Llama of that size), then a variant: one model's words, its size among them, within those given.
    """
    folded = name.strip().casefold()
    for model in MODELS:
        if folded in (model.repository.casefold(), model.name.casefold()):
            return model, ()
    wanted = words_of(name)
    if not wanted:
        return None, ()
    for model in MODELS:
        if any(wanted == words_of(known) for known in (model.name, model.repository, *model.also)):
            return model, (_taken_for(name, model),)
    size = size_in(name)
    within = [m for m in MODELS if any(set(wanted) <= set(words) for words in _names(m))]
    within = [m for m in within if size is None or size_in(m.name) == size]
    if (size is not None and within) or len(within) == 1:
        others = "; others are " + ", ".join(m.name for m in within[1:4]) if len(within) > 1 else ""
        return within[0], (_taken_for(name, within[0]) + others,)
    return _variant(name, set(wanted), size)


def near(name: str) -> list[str]:
    """The names of models that share a word with a name that is none: "mixtral" → Mixtral 8x7B, Mixtral 8x22B."""
    wanted = {word for word in words_of(name) if word[0].isalpha()}
    return [model.name for model in MODELS if wanted & set(words_of(model.name))]


def _variant(name: str, wanted: set[str], size: float | None) -> tuple[Model | None, tuple[str, ...]]:
    """A model of which a name says all words, its size too, and more: "Qwen2.5-Coder-7B". Its context is not known."""
    scores = [
        (max((len(words) for words in _names(m) if set(words) <= wanted), default=0), m)
        for m in MODELS
        if size is not None and size_in(m.name) == size
    ]
    best, model = max(scores, key=lambda score: score[0], default=(0, None))
    if model is None or best == 0:
        return None, ()
    variant = replace(model, name=name, repository=name if "/" in name else "", max_context=0, also=())
    return variant, (f"by its name {name} is a variant of {model.name}, and has its figures",)


def _names(model: Model) -> list[tuple[str, ...]]:
    return [words_of(name) for name in (model.name, *model.also)]


def _taken_for(name: str, model: Model) -> str:
    if "/" in name:
        return f"{name} has the figures of {model.name}"
    return f"{name} is taken for {model.name} ({model.repository})"
