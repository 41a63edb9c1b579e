"""The advisor's arithmetic, against sizes that others have published, and names as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import advisor, gpus
from dumont.domain.errors import InvalidInput
from dumont.domain.known_models import MODELS, Model, Quantisation, find, quantisation_in, size_in

GB = 1e9 / advisor.GIB
"""GiB in a GB."""

TEXT = tuple(model for model in MODELS if model.kind == "text")
BY_NAME = {model.name: model for model in MODELS}

INTERMEDIATE = {
    "Llama 3.1 8B": 14336, "Llama 3.1 70B": 28672, "Llama 3.1 405B": 53248, "Llama 3.2 1B": 8192, "Llama 3.2 3B": 8192,
    "Llama 2 7B": 11008, "Llama 2 13B": 13824, "Llama 2 70B": 28672, "Qwen2.5 0.5B": 4864, "Qwen2.5 1.5B": 8960,
    "Qwen2.5 3B": 11008, "Qwen2.5 7B": 18944, "Qwen2.5 14B": 13824, "Qwen2.5 32B": 27648, "Qwen2.5 72B": 29568,
    "Qwen3 4B": 9728, "Qwen3 8B": 12288, "Qwen3 14B": 17408, "Qwen3 32B": 25600, "Mistral 7B": 14336,
    "Gemma 2 2B": 9216, "Gemma 2 9B": 14336, "Gemma 2 27B": 36864, "Phi-3 mini": 8192, "Phi-3 medium": 17920,
    "Phi-4": 17920, "DeepSeek R1 Distill Qwen 1.5B": 8960,
}  # fmt: skip
"""`intermediate_size` of each config.json: with the table's own figures it makes the count of parameters."""
EXPERTS = {"Mixtral 8x7B": (8, 14336), "Mixtral 8x22B": (8, 16384), "Qwen3 30B A3B": (128, 768)}


def counted(model: Model) -> float:
    """Billions of parameters by the shape: embeddings, and in each layer attention and a gated feed-forward part."""
    experts, intermediate = EXPERTS.get(model.name, (1, INTERMEDIATE.get(model.name, 0)))
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    attention = model.hidden_size * (2 * queries + 2 * keys)
    forward = experts * 3 * model.hidden_size * intermediate
    return model.embedding_parameters + model.layers * (attention + forward) / 1e9


@pytest.mark.parametrize(
    "model", [m for m in TEXT if m.name in INTERMEDIATE or m.name in EXPERTS], ids=lambda m: m.name
)
def test_a_models_shape_makes_the_parameters_that_are_stated(model: Model) -> None:
    assert counted(model) == pytest.approx(model.parameters, rel=0.006)


def test_distilled_models_have_the_shape_of_what_they_are_made_of() -> None:
    for name, base in (
        ("Qwen 7B", "Qwen2.5 7B"), ("Llama 8B", "Llama 3.1 8B"), ("Qwen 14B", "Qwen2.5 14B"),
        ("Qwen 32B", "Qwen2.5 32B"), ("Llama 70B", "Llama 3.1 70B"),
    ):  # fmt: skip
        ours = BY_NAME[f"DeepSeek R1 Distill {name}"]
        assert (ours.layers, ours.kv_heads, ours.parameters) == (
            BY_NAME[base].layers, BY_NAME[base].kv_heads, BY_NAME[base].parameters,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "quantisation", "published_gb", "within"),
    [
        ("Llama 3.1 8B", "fp16", 16.06, 0.01),
        ("Llama 3.1 8B", "int8", 9.09, 0.01),  # RedHatAI/Meta-Llama-3-8B-Instruct-FP8, of the same shape
        ("Llama 3.1 70B", "fp16", 141.1, 0.01),
        ("Llama 2 7B", "fp16", 13.48, 0.01),
        ("Qwen2.5 7B", "fp16", 15.23, 0.01),
        ("FLUX.1 dev", "fp16", 23.8 + 9.79 + 0.25 + 0.17, 0.01),
        ("SDXL", "fp16", 6.94, 0.01),
    ],
)
def test_weights_are_what_the_published_files_have(
    name: str, quantisation: Quantisation, published_gb: float, within: float
) -> None:
    assert advisor.weights_gib(BY_NAME[name], quantisation) == pytest.approx(published_gb * GB, rel=within)


def test_llama_8b_at_16_bits_is_15_gib_of_weights_and_an_eighth_of_a_mib_of_cache_a_token() -> None:
    need = advisor.advise("llama 3.1 8b", context=8192).need("fp16")
    assert need.weights_gib == pytest.approx(15.0, abs=0.1)
    assert need.kv_cache_gib == 1.0
    assert need.need_gib == need.weights_gib + 1.0 + advisor.OVERHEAD_GIB
    assert 24 > need.splits[0].vram_gib > 16, "a GPU of 24 GiB holds it, and one of 16 does not"


def test_the_cache_is_that_of_the_papers_example() -> None:
    opt_13b = Model(name="OPT-13B", parameters=13.0, layers=40, heads=40, kv_heads=40, head_size=128)
    assert advisor.kv_cache_gib(opt_13b, 1, 1) * advisor.GIB == 800 * 1024


def test_70b_fits_two_gpus_of_80_gib_at_16_bits_and_one_of_48_at_4() -> None:
    advice = advisor.advise("llama 3.1 70b")
    by_count = {split.gpu_count: split.vram_gib for split in advice.need("fp16").splits}
    assert by_count[1] > 141
    assert by_count[2] < 80
    assert advice.need("int4").splits[0].vram_gib < 48


def test_tensor_parallelism_divides_the_heads() -> None:
    qwen, phi = BY_NAME["Qwen2.5 7B"], BY_NAME["Phi-3 medium"]
    assert [n for n in advisor.GPU_COUNTS if advisor.may_split(qwen, n)] == [1, 2, 4], "28 heads are not 8 × anything"
    assert [n for n in advisor.GPU_COUNTS if advisor.may_split(phi, n)] == [1, 2], "10 key-value heads are not 4 × any"
    assert not advisor.may_split(BY_NAME["SDXL"], 2)


def test_key_value_heads_that_are_copied_save_no_cache() -> None:
    qwen = BY_NAME["Qwen2.5 72B"]
    few = Model(**{f: getattr(qwen, f) for f in qwen.__struct_fields__} | {"kv_heads": 2})
    need = advisor.need(few, "fp16", context=32768, requests=8)
    four, eight = (next(s.vram_gib for s in need.splits if s.gpu_count == n) for n in (4, 8))
    assert (four - eight) * advisor.USABLE_SHARE == pytest.approx(need.weights_gib / 8)


# --- Properties ---

models = st.sampled_from(TEXT)
quantisations = st.sampled_from(advisor.QUANTISATIONS)
tokens, at_once = st.integers(1, 100_000), st.integers(1, 64)


@given(models, quantisations, tokens, tokens, at_once, at_once)
def test_more_context_and_more_requests_never_need_less(
    model: Model, quantisation: Quantisation, context: int, more: int, requests: int, others: int
) -> None:
    small = advisor.need(model, quantisation, context=context, requests=requests)
    longer = advisor.need(model, quantisation, context=context + more, requests=requests)
    busier = advisor.need(model, quantisation, context=context, requests=requests + others)
    assert longer.need_gib > small.need_gib
    assert busier.need_gib > small.need_gib
    assert longer.splits[0].vram_gib > small.splits[0].vram_gib


@given(models, tokens, at_once, st.booleans())
def test_fewer_bits_never_need_more(model: Model, context: int, requests: int, gguf: bool) -> None:
    fp16, int8, int4 = (
        advisor.need(model, q, context=context, requests=requests, gguf=gguf) for q in ("fp16", "int8", "int4")
    )
    assert fp16.need_gib > int8.need_gib > int4.need_gib


@given(models, quantisations, tokens, at_once)
def test_more_gpus_need_less_memory_of_each_and_more_in_all(
    model: Model, quantisation: Quantisation, context: int, requests: int
) -> None:
    splits = advisor.need(model, quantisation, context=context, requests=requests).splits
    assert splits[0].gpu_count == 1
    each = [split.vram_gib for split in splits]
    in_all = [split.vram_gib * split.gpu_count for split in splits]
    assert each == sorted(each, reverse=True)
    assert in_all == sorted(in_all)


@given(st.floats(0.1, 500), st.floats(1.2, 10), quantisations)
def test_a_larger_size_in_a_name_never_needs_less(size: float, times: float, quantisation: Quantisation) -> None:
    small, large = (advisor.advise(f"acme/thing-{n:.2f}B", quantisations=(quantisation,)) for n in (size, size * times))
    assert large.needs[0].weights_gib > small.needs[0].weights_gib


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{0,5}[-x:]?[0-9.]{1,12}[bm]", fullmatch=True))
def test_any_name_is_understood_or_refused_in_words(name: str) -> None:
    if find(name)[0] is None and not size_in(name):
        with pytest.raises(InvalidInput) as refused:
            advisor.advise(name)
        assert refused.value.field == "model"
    else:
        assert all(need.need_gib > 0 for need in advisor.advise(name).needs)


# --- Names ---


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("llama 7b", "Llama 2 7B"), ("Llama-7B", "Llama 2 7B"), ("llama 8b", "Llama 3.1 8B"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama 3.1 8B"), ("llama3.1:8b", "Llama 3.1 8B"),
        ("LLAMA_3.1_70B", "Llama 3.1 70B"), ("mistral", "Mistral 7B"), ("mixtral 8x7b", "Mixtral 8x7B"),
        ("TheBloke/Llama-2-7B-Chat-GGUF", "Llama 2 7B"), ("qwen 32b", "Qwen2.5 32B"), ("phi3", "Phi-3 mini"),
        ("deepseek-r1:32b", "DeepSeek R1 Distill Qwen 32B"), ("gemma2:9b-instruct-q4_K_M", "Gemma 2 9B"),
        ("bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "Llama 3.2 3B"), ("flux", "FLUX.1 dev"), ("sdxl", "SDXL"),
    ],
)  # fmt: skip
def test_a_name_is_forgiven_its_spelling(name: str, means: str) -> None:
    model, assumed = find(name)
    assert model is not None
    assert model.name == means
    assert assumed or name.casefold() == means.casefold(), "what was taken for what is said"


def test_a_variant_has_the_figures_and_the_name_of_its_own() -> None:
    model, assumed = find("Qwen/Qwen2.5-Coder-7B-Instruct")
    assert model is not None
    assert (model.repository, model.layers, model.max_context) == ("Qwen/Qwen2.5-Coder-7B-Instruct", 28, 0)
    assert "a variant of Qwen2.5 7B" in assumed[0]


def test_a_size_never_becomes_a_model_of_another() -> None:
    for name in ("llama 9b", "mistral 12b", "qwen2.5 70b"):
        advice = advisor.advise(name)
        assert not advice.known
        assert "is not in the table" in advice.assumed[0]
    assert advisor.advise("falcon-7b").model.parameters == pytest.approx(7.7), "names round down"


def test_what_could_be_several_is_asked_about() -> None:
    with pytest.raises(InvalidInput) as refused:
        advisor.advise("mixtral")
    assert refused.value.hint == "do you mean Mixtral 8x7B or Mixtral 8x22B?"
    with pytest.raises(InvalidInput) as refused:
        advisor.advise("something")
    assert "my-model-7B" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "size"), [("x-7B-chat", 7.0), ("x-0.5b", 0.5), ("x_350m", 0.35), ("8x22B", 176.0), ("30B-A3B", 30.0)]
)
def test_a_size_is_read_from_a_name(name: str, size: float) -> None:
    assert size_in(name) == size
    assert size_in("x-7Billion") is None
    assert size_in("abc") is None


@pytest.mark.parametrize(
    ("name", "quantisation"),
    [
        ("x-7B-AWQ", "int4"), ("x-GPTQ-Int4", "int4"), ("x-FP8-dynamic", "int8"), ("x:7b-q8_0", "int8"),
        ("x-Q5_K_M", "int8"), ("x-IQ2_XS", "int4"), ("x-7B-Instruct", None), ("x.w4a16", "int4"),
    ],
)  # fmt: skip
def test_a_checkpoint_is_quantised_as_its_name_says(name: str, quantisation: Quantisation | None) -> None:
    assert quantisation_in(name) == quantisation


def test_a_quantised_checkpoint_is_what_it_is_whatever_is_asked() -> None:
    advice = advisor.advise("TheBloke/Llama-2-7B-Chat-AWQ", quantisations=("fp16",))
    assert [need.quantisation for need in advice.needs] == ["int4"]
    assert advice.download_gb < 5


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 4096"):
        advisor.advise("llama 2 7b", context=4097)
    assert advisor.advise("llama 2 7b").context == 4096
    assert advisor.advise("llama 3.1 8b").context == 8192


def test_gguf_names_are_ollamas() -> None:
    assert all(advisor.is_gguf(name) for name in ("llama3.1:8b", "acme/X-7B-GGUF", "hf.co/acme/x-7b"))
    assert not any(advisor.is_gguf(name) for name in ("llama 7b", "meta-llama/Llama-3.1-8B"))


def test_gpus_before_ampere_do_not_serve() -> None:
    old = {gpu for gpu in gpus.VRAM_GIB if not advisor.serves(gpu)}
    assert {"Tesla V100", "Tesla T4", "Tesla P40", "RTX 2080 Ti", "Q RTX 8000", "GTX 1080 Ti", "Titan RTX"} <= old
    assert not old & {"RTX 3060", "RTX A4000", "A100 SXM4", "L4", "H100 SXM", "RTX 4090", "RTX PRO 6000 S"}
