"""Oracles: `nn.MultiheadAttention`, and PyTorch's kernel on the heads written out."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers.attention import Attention
from lit_modules.layers.kv_cache import ContextCache, KVCache
from lit_modules.layers.positional import RotaryPositions
from lit_modules.networks.transformer_conversion import attention_from_torch

IMPLEMENTATIONS = ("fused", "by_hand", "tiled")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(width: int = 8, **options: Any) -> Attention:
    """An fp64 module with all parameters away from their starting values, in evaluation."""
    attention = Attention(width, **options).double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(attention.parameters()):
            parameter.copy_(0.5 * normal(*parameter.shape, seed=number + 1))
    return attention


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        output, inputs, retain_graph=True, grad_outputs=normal(*output.shape, seed=77).to(output.dtype)
    )


def named_gradients(module: nn.Module, output: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, gradients(output, parameters), strict=True))


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("context_width", [None, 8, 5])
def test_equals_multihead_attention(implementation: str, bias: bool, context_width: int | None):
    """Itself, and a context of the same and of another width, with padding. PyTorch's masks block."""
    theirs = nn.MultiheadAttention(
        8, 2, bias=bias, kdim=context_width, vdim=context_width, batch_first=True, dtype=torch.float64
    )
    if bias:
        nn.init.normal_(theirs.in_proj_bias)
        nn.init.normal_(theirs.out_proj.bias)
    ours = attention_from_torch(theirs)
    ours.implementation = implementation
    x = normal(2, 4, 8).requires_grad_()
    context = None if context_width is None else normal(2, 7, context_width, seed=1).requires_grad_()
    source = x if context is None else context
    key_mask = torch.ones(2, source.shape[1], dtype=torch.bool)
    key_mask[1, -2:] = False
    mask = torch.rand(4, source.shape[1], generator=torch.Generator().manual_seed(5)) > 0.3
    mask[:, 0] = True

    output = ours(x, context, mask=mask, key_mask=key_mask)
    blocked = {"attn_mask": ~mask, "key_padding_mask": ~key_mask}
    expected, weights = theirs(x, source, source, **blocked, average_attn_weights=False)
    assert_close(output, expected)
    assert_close(ours.weights(x, context, mask=mask, key_mask=key_mask), weights)
    inputs = [x] if context is None else [x, context]
    assert_close(gradients(output, inputs), gradients(expected, inputs))

    wanted = named_gradients(theirs, expected)
    got = named_gradients(ours, output)
    assert_close(got["output.weight"], wanted["out_proj.weight"])
    for parameter in ("weight", "bias") if bias else ("weight",):
        parts = [got[f"{layer}.{parameter}"] for layer in ("query", "key", "value")]
        if f"in_proj_{parameter}" in wanted:
            assert_close(torch.cat(parts), wanted[f"in_proj_{parameter}"])
        else:
            assert_close(parts, [wanted[f"{letter}_proj_weight"] for letter in "qkv"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True}, {"is_causal": True, "window": 2}, {"head_dim": 6}]
)
def test_shared_key_heads_equal_the_formula(implementation: str, kv_heads: int, options: dict[str, Any]):
    attention = build(num_heads=4, num_kv_heads=kv_heads, implementation=implementation, **options)
    x, head_dim = normal(2, 5, 8).requires_grad_(), options.get("head_dim", 2)

    def heads(layer: nn.Linear, number: int) -> Tensor:
        return F.linear(x, layer.weight, layer.bias).view(2, 5, number, head_dim).transpose(1, 2)

    query, key = heads(attention.query, 4), heads(attention.key, kv_heads)
    if options.get("qk_norm"):
        query = F.rms_norm(query, (2,), attention.query_norm.weight, 1e-6)
        key = F.rms_norm(key, (2,), attention.key_norm.weight, 1e-6)
    key, value = (h.repeat_interleave(4 // kv_heads, dim=1) for h in (key, heads(attention.value, kv_heads)))
    visible = torch.ones(5, 5, dtype=torch.bool)
    if options.get("window"):
        visible = visible.tril().triu(-1)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    expected = F.linear(
        attended.transpose(1, 2).reshape(2, 5, -1), attention.output.weight, attention.output.bias
    )
    output = attention(x)
    assert_close(output, expected)
    inputs = [x, *attention.parameters()]
    assert_close(gradients(output, inputs), gradients(expected, inputs))
    assert attention.key.weight.shape == (kv_heads * head_dim, 8)


@pytest.mark.parametrize("layout", ["half_split", "adjacent_pairs"])
def test_rotary_rotates_queries_and_keys_and_shifts_away(layout: str):
    rotary = RotaryPositions(4, layout=layout)
    attention = build(num_heads=2, num_kv_heads=1, is_causal=True, rotary=rotary)
    x = normal(2, 5, 8)
    rotation = rotary(torch.arange(5), dtype=torch.float64)
    query, key, value = (
        F.linear(x, layer.weight, layer.bias).unflatten(-1, (-1, 4)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    query, key = rotation(query, order="BHTD"), rotation(key, order="BHTD").expand(2, 2, 5, 4)
    attended = F.scaled_dot_product_attention(query, key, value.expand(2, 2, 5, 4), is_causal=True)
    assert_close(attention(x), attention.output(attended.transpose(1, 2).flatten(2)))

    shifted = rotary(torch.arange(100, 105), dtype=torch.float64)
    assert_close(attention(x, rotation=shifted), attention(x))
    assert not torch.allclose(attention(x, rotation=rotary(torch.arange(0, 10, 2))), attention(x))


EVERYTHING: list[dict[str, Any]] = [
    {},
    {"num_kv_heads": 1},
    {"num_kv_heads": 2, "rotary": RotaryPositions(2), "qk_norm": True},
    {"rotary": RotaryPositions(2, layout="adjacent_pairs"), "window": 3},
    {"num_kv_heads": 2, "window": 1},
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", EVERYTHING)
def test_the_cache_changes_nothing(implementation: str, options: dict[str, Any]):
    """However the tokens arrive: one by one, in pieces, or all at once."""
    attention = build(num_heads=4, is_causal=True, implementation=implementation, **options)
    x = normal(2, 7, 8)
    with torch.no_grad():
        at_once = attention(x)
        for pieces in ([1] * 7, [7], [3, 1, 3], [4, 3], [1, 6]):
            cache = KVCache(9)
            outputs = [attention(piece, cache=cache) for piece in x.split(pieces, dim=1)]
            assert_close(torch.cat(outputs, dim=1), at_once)
            assert cache.length == 7


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_mask_holds_with_a_cache_too(implementation: str, ragged: bool):
    """Of T new tokens it is (T, S), over all that the cache then holds."""
    attention = build(num_heads=4, is_causal=True, implementation=implementation)
    x, mask = normal(2, 6, 8), torch.rand(6, 6, generator=torch.Generator().manual_seed(2)) > 0.4
    key_mask = torch.ones(2, 4, dtype=torch.bool)
    key_mask[1, 3] = not ragged
    cache = KVCache(6)
    with torch.no_grad():
        first = attention(x[:, :4], mask=mask[:4, :4], key_mask=key_mask, cache=cache)
        second = attention(x[:, 4:], mask=mask[4:], cache=cache)
        together = attention(x, mask=mask)
        assert_close(torch.cat([first, second], dim=1)[0], together[0])
        if not ragged:
            assert_close(torch.cat([first, second], dim=1)[1], together[1])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", EVERYTHING)
@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_rows_of_different_lengths_equal_each_alone(
    implementation: str, options: dict[str, Any], side: str
):
    """Prompts of 4, 1 and 3 tokens, padded; then each row goes on for 3 steps, then for 2 at once."""
    attention = build(num_heads=4, is_causal=True, implementation=implementation, **options)
    lengths = (4, 1, 3)
    rows = [normal(1, length + 5, 8, seed=length) for length in lengths]
    prompt, key_mask = torch.full((3, 4, 8), 1e3, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.bool)
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        place = slice(4 - length, 4) if side == "left" else slice(0, length)
        prompt[number, place], key_mask[number, place] = row[0, :length], True
    with torch.no_grad():
        cache = KVCache(9)
        first = attention(prompt, key_mask=key_mask, cache=cache)
        steps = [
            attention(
                torch.cat([row[:, n + a : n + b] for row, n in zip(rows, lengths, strict=True)]), cache=cache
            )
            for a, b in ((0, 1), (1, 2), (2, 3), (3, 5))
        ]
        for number, row in enumerate(rows):
            alone = attention(row)
            together = torch.cat([first[number, key_mask[number]], *(step[number] for step in steps)])
            assert_close(together, alone[0])
        assert_close(first[key_mask], attention(prompt, key_mask=key_mask)[key_mask])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", [*EVERYTHING, {"is_causal": False}, {"is_causal": False, "window": 2}])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_results_nor_gradients(
    implementation: str, options: dict[str, Any], side: str
):
    attention = build(num_heads=4, implementation=implementation, **({"is_causal": True} | options))
    real = normal(1, 3, 8)
    padding = torch.full((1, 2, 8), 1e3, dtype=torch.float64)
    padded = torch.cat([padding, real] if side == "left" else [real, padding], dim=1)
    place = slice(2, 5) if side == "left" else slice(0, 3)
    key_mask = torch.zeros(1, 5, dtype=torch.bool)
    key_mask[:, place] = True
    output, alone = attention(padded, key_mask=key_mask)[:, place], attention(real)
    assert_close(output, alone)
    parameters = list(attention.parameters())
    assert_close(gradients(output, parameters), gradients(alone, parameters))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cached", [False, True])
def test_a_nan_in_the_padding_of_a_context_has_no_effect(implementation: str, cached: bool):
    attention = build(num_heads=2, context_width=8, implementation=implementation)
    x, clean = normal(2, 3, 8), normal(2, 4, 8, seed=1)
    key_mask = torch.tensor([[True, True, False, False], [True] * 4])
    results = []
    for context in (clean, clean.masked_fill(~key_mask[:, :, None], torch.nan)):
        context, query = context.requires_grad_(), x.clone().requires_grad_()
        cache = ContextCache() if cached else None
        output = attention(query, context, key_mask=key_mask, cache=cache)
        if cached:
            output = output + attention(query, cache=cache)
        results.append([output, *torch.autograd.grad(output.square().sum(), (query, context))])
    for ours, expected in zip(results[1], results[0], strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_token_sees_a_later_one_or_beyond_the_window(implementation: str):
    attention = build(num_heads=2, is_causal=True, window=2, implementation=implementation)
    jacobian = torch.autograd.functional.jacobian(lambda x: attention(x).sum((0, 2)), normal(1, 5, 8))
    reached = jacobian.abs().sum(-1)[:, 0] > 0  # output t depends on input s
    assert torch.equal(reached, torch.ones(5, 5, dtype=torch.bool).tril().triu(-1))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_cached_context_is_projected_once(implementation: str):
    attention = build(num_heads=4, num_kv_heads=2, context_width=5, implementation=implementation)
    x, context = normal(2, 3, 8), normal(2, 6, 5, seed=1)
    key_mask = torch.ones(2, 6, dtype=torch.bool)
    key_mask[0, 4:] = False
    with torch.no_grad():
        expected = attention(x, context, key_mask=key_mask)
        cache = ContextCache()
        first = attention(x[:, :1], context, key_mask=key_mask, cache=cache)
        second = attention(x[:, 1:2], context, key_mask=key_mask, cache=cache)
        third = attention(x[:, 2:], cache=cache)
        assert_close(torch.cat([first, second, third], dim=1), expected)
        cache.reorder(torch.tensor([1, 0, 1]))
        swapped = attention(x[[1, 0, 1]], cache=cache)
        assert_close(swapped, expected[[1, 0, 1]])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_fully_masked_row_leaves_the_output_bias_and_finite_gradients(implementation: str):
    attention = build(num_heads=2, implementation=implementation)
    x = normal(2, 3, 8).requires_grad_()
    key_mask = torch.tensor([[True, True, True], [False, False, False]])
    output = attention(x, key_mask=key_mask)
    assert_close(output[1], attention.output.bias.expand(3, 8))
    for gradient in gradients(output, [x, *attention.parameters()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_against_fp64_is_at_most_that_of_multihead_attention(implementation: str, dtype: torch.dtype):
    theirs = nn.MultiheadAttention(64, 4, batch_first=True).to(dtype)
    ours = attention_from_torch(theirs)
    ours.implementation = implementation
    exact = attention_from_torch(theirs).double()
    x = normal(2, 65, 64).to(dtype)

    def results(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        output = module(x, x, x, need_weights=False)[0] if module is theirs else module(x)
        last = module.out_proj if module is theirs else module.output
        return (output.detach(), *gradients(output, [x, last.weight]))

    truth = results(exact, x.double())
    errors = [
        [float((narrow.double() - wide).norm()) for narrow, wide in zip(results(m, x), truth, strict=True)]
        for m in (ours, theirs)
    ]
    assert all(mine <= 1.5 * reference for mine, reference in zip(*errors, strict=True)), errors


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
def test_dropout_of_weights_and_of_the_output_in_training_only(implementation: str):
    x = normal(2, 12, 8)
    torch.manual_seed(0)
    weights_dropped = build(num_heads=2, dropout=0.5, implementation=implementation)
    plain = weights_dropped(x)
    assert_close(plain, build(num_heads=2)(x))
    with torch.no_grad():
        several = torch.stack([weights_dropped.train()(x) for _ in range(100)])
    assert several.std(0).min() > 0
    torch.testing.assert_close(
        several.mean(0), plain, rtol=0, atol=6 * float(several.std(0).max()) / 100**0.5
    )

    output_dropped = build(num_heads=2, output_dropout=0.5, implementation=implementation).train()
    dropped = output_dropped(x)
    zero = dropped == 0
    assert 0.3 < float(zero.double().mean()) < 0.7
    assert_close(dropped[~zero], 2 * plain[~zero])


def test_works_under_autocast_with_everything_on():
    attention = Attention(
        8, num_heads=4, num_kv_heads=2, qk_norm=True, rotary=RotaryPositions(2), is_causal=True
    )
    x = normal(2, 5, 8).float()
    for implementation in IMPLEMENTATIONS:
        attention.implementation = implementation
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = attention(x)
        assert narrow.dtype == torch.bfloat16
        torch.testing.assert_close(narrow.float(), attention(x), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 doesn't divide width 8"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads 3 doesn't divide num_heads 4"),
        ({"num_heads": 0}, "num_kv_heads 0 doesn't divide num_heads 0"),
        ({"num_heads": 2, "rotary": RotaryPositions(2)}, "head_dim 2, but head_dim is 4"),
        (
            {"num_heads": 2, "rotary": RotaryPositions(4), "context_width": 8},
            "not to attention to a context",
        ),
        ({"num_heads": 2, "dropout": 0.1, "implementation": "tiled"}, r"no dropout .* got dropout 0\.1"),
        ({"num_heads": 2, "dropout": 0.1, "implementation": "triton"}, r"no dropout .* got dropout 0\.1"),
        ({"num_heads": 2, "window": 0}, "window is 0"),
        ({"num_heads": 2, "implementation": "flash"}, "implementation is 'flash'"),
        ({"num_heads": 2, "dropout": 1.0}, r"dropout is 1\.0"),
        ({"num_heads": 2, "output_dropout": -1.0}, r"output_dropout is -1\.0"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Attention(8, **options)


def test_wrong_calls_are_named():
    x = torch.zeros(2, 3, 8)
    causal, over_context = (
        Attention(8, num_heads=2, is_causal=True),
        Attention(8, num_heads=2, context_width=5),
    )
    with pytest.raises(ValueError, match="don't apply to a context"):
        causal(x, x)
    with pytest.raises(ValueError, match="width 5 is needed, but none is given"):
        over_context(x)
    with pytest.raises(ValueError, match="takes a ContextCache"):
        over_context(x, torch.zeros(2, 3, 5), cache=KVCache(3))
    with pytest.raises(ValueError, match="first call needs the context"):
        over_context(x, cache=ContextCache())
    with pytest.raises(ValueError, match="is_causal=True"):
        Attention(8, num_heads=2)(x, cache=KVCache(3))
    with pytest.raises(ValueError, match=r"shape \(2, 4\), the keys need \(2, 3\)"):
        causal(x, key_mask=torch.ones(2, 4, dtype=torch.bool))


def test_every_combination_of_heads_counts_its_parameters():
    for heads, kv_heads in itertools.product((1, 2, 4), (1, 2, 4)):
        if heads % kv_heads == 0:
            attention = Attention(8, num_heads=heads, num_kv_heads=kv_heads, bias=False)
            expected = 2 * 8 * 8 + 2 * 8 * (8 // heads) * kv_heads
            assert sum(p.numel() for p in attention.parameters()) == expected
