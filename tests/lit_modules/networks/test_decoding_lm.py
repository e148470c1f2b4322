import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.generate import generate
from lit_modules.layers.int8_linear import quantise_int8
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM

GPT2 = LanguageModelConfig(depth=3, width=32, num_heads=4, feed_forward_width=64, tie_embeddings=False)
LLAMA = replace(
    GPT2,
    num_kv_heads=2,
    norm="rms_norm",
    feed_forward="swiglu",
    bias=False,
    position="rotary",
    rotary_base=100.0,
)
KINDS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "gguf": replace(LLAMA, rotary_layout="adjacent_pairs", tie_embeddings=True),
    "biased": replace(LLAMA, bias=True, norm="layer_norm", num_kv_heads=1, head_dim=6),
    "qk_norm": replace(LLAMA, qk_norm=True, feed_forward="squared_relu"),
    "post_norm": replace(GPT2, norm_first=False, dropout=0.5, position="sinusoidal"),
    "partial_norm": replace(LLAMA, norm_partial=0.4, norm_bias=True),
    "window": replace(LLAMA, window=4),
}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def build(kind: str, *, dtype: torch.dtype = torch.float64) -> TransformerLM:
    network = TransformerLM(KINDS[kind], vocab_size=29, context_length=20)
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.to(dtype).eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(29, shape, generator=torch.Generator().manual_seed(seed))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_original_may_be_deleted(kind: str):
    network, x = build(kind), tokens(2, 9)
    expected, fast = network(x), DecodingLM(network)
    packed = weakref.ref(network.trunk.layers[0].attention.query.weight)
    del network
    gc.collect()
    assert packed() is None
    close(fast(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_original(kind: str):
    network, x = build(kind), tokens(2, 9)
    fast = DecodingLM(network)
    close(fast(x), network(x))
    close(fast(x, last_only=True), network(x)[:, -1:])
    assert (fast.vocab_size, fast.context_length) == (29, 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [[1] * 9, [5, 1, 3]])
def test_cached_equals_uncached(kind: str, pieces: list[int]):
    network, x = build(kind), tokens(2, 9)
    fast = DecodingLM(network)
    cache = fast.make_cache(9)
    close(torch.cat([fast(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1), network(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_each_alone_and_go_on_so(kind: str, side: str):
    network = build(kind)
    fast = DecodingLM(network)
    long, short = tokens(1, 8), tokens(1, 5, seed=1)
    prompt, key_mask = torch.zeros(2, 6, dtype=torch.long), torch.ones(2, 6, dtype=torch.bool)
    place = slice(3, 6) if side == "left" else slice(0, 3)
    prompt[0], prompt[1, place] = long[0, :6], short[0, :3]
    key_mask[1] = False
    key_mask[1, place] = True
    cache = fast.make_cache(8)
    close(fast(prompt, key_mask=key_mask, cache=cache)[1, place], network(short[:, :3])[0])
    for step in range(2):
        logits = fast(torch.stack([long[0, [6 + step]], short[0, [3 + step]]]), cache=cache)
        close(logits[0], network(long[:, : 7 + step])[0, -1:])
        close(logits[1], network(short[:, : 4 + step])[0, -1:])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "window"])
@pytest.mark.parametrize("decoding", [False, True])
def test_a_nan_in_the_padding_reaches_no_real_token(kind: str, decoding: bool):
    """Neither in the prompt nor from the cache in the steps that follow."""
    network = build(kind)
    x, steps = tokens(2, 6).clamp(min=1), tokens(2, 2, seed=1).clamp(min=1)
    x[1, :3] = 0
    results = []
    for junk in (0.0, torch.nan):
        network.embedding.weight[0] = junk
        model = DecodingLM(network) if decoding else network
        cache = model.make_cache(8)
        prompt = model(x, key_mask=x > 0, cache=cache)
        following = [model(steps[:, t : t + 1], cache=cache) for t in (0, 1)]
        results.append(torch.cat([prompt[x > 0], *(step.flatten(0, 1) for step in following)])[:, 1:])
    close(results[1], results[0])


@pytest.mark.parametrize("kind", ["llama", "window"])
@pytest.mark.parametrize("padded", [False, True])
def test_reordered_rows_go_on_as_their_parents(padded: bool, kind: str):
    network = build(kind)
    fast = DecodingLM(network)
    x, last = tokens(2, 4), tokens(3, 1, seed=1)
    key_mask = torch.tensor([[not padded, True, True, True], [True] * 4])
    cache = fast.make_cache(5)
    fast(x, key_mask=key_mask, cache=cache)
    rows = torch.tensor([1, 0, 1])
    cache[0].reorder(rows)
    logits = fast(last, cache=cache)
    for row, parent in enumerate(rows.tolist()):
        alone = torch.cat([x[parent][key_mask[parent]], last[row]])[None]
        close(logits[row], network(alone)[0, -1:])


@pytest.mark.parametrize("kind", ["gpt2", "gguf"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_chooses_the_same_tokens_beyond_the_context_too(kind: str, use_cache: bool):
    network = build(kind)
    prompts = [tokens(6).tolist(), tokens(3, seed=1).tolist(), tokens(18, seed=2).tolist()]
    settings = SamplingConfig(temperature=0.8, max_new_tokens=25, stop_ids=[5])
    expected = generate(network, prompts, settings)
    assert generate(DecodingLM(network), prompts, settings, use_cache=use_cache) == expected


def test_half_precision_errs_no_more_than_the_original_does():
    network, x = build("llama", dtype=torch.bfloat16), tokens(4, 20)
    exact = build("llama")
    exact.load_state_dict({name: t.double() for name, t in network.state_dict().items()})
    fast = DecodingLM(network)(x)
    assert fast.dtype == torch.bfloat16
    error, of_original = ((y.double() - exact(x)).square().mean() for y in (fast, network(x)))
    assert 0 < float(error) < 1.2 * float(of_original)


def test_8_bits_are_those_of_the_rounded_matrices():
    network, x = build("llama", dtype=torch.float32), tokens(4, 20)
    fast = DecodingLM(network, weights="int8")
    cache = fast.make_cache(20)
    logits = torch.cat([fast(piece, cache=cache) for piece in x.split([1] * 3 + [17], dim=1)], dim=1)
    before = network(x)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            quantised, scale = quantise_int8(module.weight, dtype=torch.bfloat16)
            module.weight.copy_(quantised * scale.float().unsqueeze(1))
    exact = network(x)
    assert logits.dtype == torch.bfloat16
    scale = float(exact.std())
    assert float((logits.float() - exact).square().mean().sqrt()) < 0.03 * scale
    assert 0.001 * scale < float((before - exact).square().mean().sqrt()) < 0.05 * scale


def test_tied_embeddings_stay_as_they_are_beside_8_bits():
    network = build("gguf", dtype=torch.float32)
    fast = DecodingLM(network, weights="int8")
    assert fast.embedding.weight is network.embedding.weight


def test_what_a_token_reads_is_counted():
    network = build("gguf", dtype=torch.bfloat16)
    matrices = sum(p.numel() for p in network.parameters() if p.dim() == 2)  # the tied one is the head
    assert DecodingLM(network).bytes_per_token == 2 * matrices
    assert DecodingLM(network, weights="int8").bytes_per_token == matrices


def test_it_stays_where_it_was_made():
    with pytest.raises(ValueError, match="can't be moved or converted"):
        DecodingLM(build("gpt2")).to(torch.float32)


def test_what_does_not_fit():
    fast = DecodingLM(build("gpt2"))
    cache = fast.make_cache(4)
    fast(tokens(1, 3), cache=cache)
    with pytest.raises(ValueError, match="the cache is full: its capacity is 4 tokens, and 5 are needed"):
        fast(tokens(1, 2), cache=cache)
    with pytest.raises(ValueError, match="capacity is 0"):
        fast.make_cache(0)
    with pytest.raises(ValueError, match="positions 0 … 20 exceed the 20"):
        fast(tokens(1, 21))
