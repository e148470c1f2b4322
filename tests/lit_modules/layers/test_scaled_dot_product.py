"""Oracle: PyTorch's `scaled_dot_product_attention` with an explicit mask and repeated key heads."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lit_modules.layers.scaled_dot_product import attention_weights, scaled_dot_product_attention

IMPLEMENTATIONS = ("fused", "by_hand", "tiled")
Heads = tuple[Tensor, Tensor, Tensor]


def heads(
    *, batch: int = 2, kv: int = 4, queries: int = 5, keys: int = 5, scale: float = 1.0, value_width: int = 3
) -> Heads:
    """fp64 queries and keys of width 6, and values."""
    generator = torch.Generator().manual_seed(queries * 100 + keys * 10 + kv)

    def normal(*shape: int) -> Tensor:
        x = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    return normal(batch, 4, queries, 6), normal(batch, kv, keys, 6), normal(batch, kv, keys, value_width)


def oracle(inputs: Heads, visible: Tensor | None, scale: float | None = None) -> Tensor:
    query, key, value = inputs
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)


def with_gradients(output: Tensor, inputs: Heads) -> list[Tensor]:
    cotangent = torch.arange(output.numel(), dtype=output.dtype).cos().view_as(output)
    return [output, *torch.autograd.grad((output * cotangent).sum(), inputs)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kv", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("is_causal", [False, True])
def test_values_and_gradients_equal_pytorch(
    implementation: str, kv: int, window: int | None, is_causal: bool
):
    """Also T ≠ S, where causality is aligned bottom-right, and T = 1, where heads are folded."""
    for queries, keys in ((1, 1), (1, 5), (4, 1), (4, 7), (7, 7), (7, 5)):
        inputs = heads(kv=kv, queries=queries, keys=keys)
        distance = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
        visible = torch.ones(queries, keys, dtype=torch.bool)
        if is_causal:
            visible &= distance >= 0
        if window is not None:
            visible &= distance.abs() < window
        ours = scaled_dot_product_attention(
            *inputs, is_causal=is_causal, window=window, implementation=implementation
        )
        assert_same(with_gradients(ours, inputs), with_gradients(oracle(inputs, visible), inputs))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("shape", ["TS", "11TS", "B11S", "BHTS", "B1TS", "BHT1"])
def test_masks_of_every_shape_equal_pytorch(implementation: str, is_causal: bool, queries: int, shape: str):
    sizes = {"T": queries, "S": 7, "B": 2, "H": 4, "1": 1}
    mask = torch.rand(*(sizes[s] for s in shape), generator=torch.Generator().manual_seed(3)) > 0.3
    for kv in (1, 2, 4):
        inputs = heads(kv=kv, queries=queries, keys=7)
        visible = mask.expand(2, 4, queries, 7)
        if is_causal:
            visible = visible & torch.ones(queries, 7, dtype=torch.bool).tril(7 - queries)
        ours = scaled_dot_product_attention(
            *inputs, mask=mask, is_causal=is_causal, implementation=implementation
        )
        assert_same(with_gradients(ours, inputs), with_gradients(oracle(inputs, visible), inputs))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_query_with_nothing_to_attend_gets_zeros_and_gives_no_gradient(
    implementation: str, dtype: torch.dtype
):
    inputs = tuple(x.detach().to(dtype).requires_grad_() for x in heads())
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, :, 2] = False
    mask[1] = False
    output = scaled_dot_product_attention(*inputs, mask=mask, implementation=implementation)
    gradients = torch.autograd.grad(output.sum(), inputs)
    assert torch.equal(output[0, :, 2], torch.zeros_like(output[0, :, 2]))
    assert torch.equal(output[1], torch.zeros_like(output[1]))
    assert output[0, :, 1].abs().min() > 0
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(torch.equal(gradient[1], torch.zeros_like(gradient[1])) for gradient in gradients)
    assert torch.equal(gradients[0][0, :, 2], torch.zeros_like(gradients[0][0, :, 2]))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kv", [4, 2, 1])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("shape", ["B11S", "BHTS", "11TS", "TS"])
@pytest.mark.parametrize("junk", [torch.nan, torch.inf])
def test_no_hidden_key_or_value_reaches_outputs_or_gradients(
    implementation: str, kv: int, queries: int, shape: str, junk: float
):
    """Compare with the same call without the hidden keys."""
    sizes = {"T": queries, "S": 5, "B": 2, "H": 4, "1": 1}
    mask = torch.ones(*(sizes[s] for s in shape), dtype=torch.bool)
    mask[..., [1, 4]] = False
    for is_causal in (False, True):
        inputs = heads(kv=kv, queries=queries)
        hidden = torch.zeros(5, 1, dtype=torch.bool)
        hidden[[1, 4]] = True
        dirty = (inputs[0], *(x.detach().masked_fill(hidden, junk).requires_grad_() for x in inputs[1:]))
        results = []
        for given in (inputs, dirty):
            output = scaled_dot_product_attention(
                *given, mask=mask, is_causal=is_causal, implementation=implementation
            )
            weights = attention_weights(*given[:2], mask=mask, is_causal=is_causal)
            slopes = torch.autograd.grad(weights.square().sum(), given[:2])
            results.append([*with_gradients(output, given), weights, *slopes])
        assert_same(results[1], results[0])


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
def test_no_hidden_key_or_value_reaches_a_compiled_graph(implementation: str):
    """A graph can't look for them as an eager call on a CPU does; the padding is cleared there too."""
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 3:] = False
    query, key, value = (x.detach() for x in heads(kv=2))
    hidden = ~mask[:, :, 0, :, None]
    dirty = (query, key.masked_fill(hidden, torch.nan), value.masked_fill(hidden, torch.nan))
    compiled = torch.compile(scaled_dot_product_attention, backend="aot_eager", fullgraph=True)
    for is_causal in (False, True):
        options = {"mask": mask, "is_causal": is_causal, "implementation": implementation}
        expected = scaled_dot_product_attention(query, key, value, **options)
        torch.testing.assert_close(compiled(*dirty, **options), expected)


def alone(inputs: Heads, visible: Tensor) -> Tensor:
    """The formula for each query with copies of the keys that it may see, and no others."""
    query, key, value = inputs
    groups = query.shape[1] // key.shape[1]
    output = query.new_zeros(*query.shape[:3], value.shape[-1])
    for b, h, t in itertools.product(*map(range, query.shape[:3])):
        seen = visible.expand(*query.shape[:3], key.shape[2])[b, h, t]
        keys, values = key[b, h // groups][seen], value[b, h // groups][seen]
        if len(keys):
            output[b, h, t] = (keys @ query[b, h, t] / query.shape[-1] ** 0.5).softmax(0) @ values
    return output


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kv", [4, 2, 1])
@pytest.mark.parametrize("where", ["key", "value"])
@pytest.mark.parametrize(
    ("queries", "shape", "is_causal", "window"),
    [
        (5, None, True, None),
        (3, None, True, None),
        (5, None, False, 2),
        (1, None, True, 2),
        (5, "TS", False, None),
        (5, "BHTS", True, None),
        (5, "B11S", True, 3),
        (1, "1H1S", False, None),
    ],
)
def test_a_nan_reaches_the_queries_that_may_see_it_and_no_others(
    implementation: str,
    kv: int,
    where: str,
    queries: int,
    shape: str | None,
    is_causal: bool,
    window: int | None,
):
    sizes = {"T": queries, "S": 5, "B": 2, "H": 4, "1": 1}
    distance = torch.arange(queries)[:, None] + 5 - queries - torch.arange(5)
    visible = torch.ones(queries, 5, dtype=torch.bool)
    if is_causal:
        visible = visible & (distance >= 0)
    if window is not None:
        visible = visible & (distance.abs() < window)
    mask = None
    if shape is not None:
        mask = torch.rand(*(sizes[s] for s in shape), generator=torch.Generator().manual_seed(1)) > 0.4
        visible = visible & mask
    found = set()
    for place in range(5):
        query, key, value = (x.detach().clone() for x in heads(kv=kv, queries=queries))
        (key if where == "key" else value)[1, -1, place, 1] = torch.nan
        given = (query, key, value)
        output = scaled_dot_product_attention(
            *given, mask=mask, is_causal=is_causal, window=window, implementation=implementation
        )
        expected = alone(given, visible)
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12, equal_nan=True)
        found |= {bool(x) for x in expected.isnan().flatten()}
    assert found == {True, False}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("junk", [torch.nan, torch.inf])
def test_gradients_of_queries_that_may_not_see_a_nan_are_those_without_it(implementation: str, junk: float):
    """As where a loss leaves out the last position, whose value is not finite."""
    results = []
    for last in (0.0, junk):
        given = tuple(x.detach().clone() for x in heads())
        for x in given[1:]:
            x[:, :, -1] = last
        given = tuple(x.requires_grad_() for x in given)
        output = scaled_dot_product_attention(*given, is_causal=True, implementation=implementation)
        kept = output[:, :, :-1]
        cotangent = torch.arange(kept.numel(), dtype=kept.dtype).cos().view_as(kept)
        results.append([kept, *torch.autograd.grad((kept * cotangent).sum(), given)])
    assert_same(results[1], results[0])
    assert bool(output[:, :, -1].isnan().all())


def test_large_values_are_not_taken_for_infinite_ones():
    inputs = tuple(x.detach().float() for x in heads())
    value = torch.full_like(inputs[2], 3e38)  # the sum overflows
    output = scaled_dot_product_attention(*inputs[:2], value, is_causal=True, implementation="by_hand")
    torch.testing.assert_close(output, value[:, :, :1].expand_as(output))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_more_queries_than_keys_leaves_the_first_with_none(implementation: str):
    """Aligned bottom-right, the first T − S queries stand before every key."""
    output = scaled_dot_product_attention(
        *heads(queries=6, keys=4), is_causal=True, implementation=implementation
    )
    assert torch.equal(output[:, :, :2], torch.zeros_like(output[:, :, :2]))
    assert output[:, :, 2:].abs().min() > 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty(implementation: str, batch: int, queries: int, keys: int):
    for kv, is_causal in itertools.product((1, 4), (False, True)):
        inputs = heads(batch=batch, kv=kv, queries=queries, keys=keys)
        output = scaled_dot_product_attention(*inputs, is_causal=is_causal, implementation=implementation)
        output.sum().backward()
        assert torch.equal(output, torch.zeros(batch, 4, queries, 3, dtype=torch.float64))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scale_is_by_the_width_of_a_head_unless_given(implementation: str):
    inputs = heads()
    by_default = scaled_dot_product_attention(*inputs, implementation=implementation)
    given = scaled_dot_product_attention(*inputs, scale=0.3, implementation=implementation)
    torch.testing.assert_close(by_default, oracle(inputs, None, scale=1 / 6**0.5), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(given, oracle(inputs, None, scale=0.3), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_non_contiguous_heads(implementation: str):
    """As a projection gives them: (B, T, H, D) transposed."""
    inputs = tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in heads(kv=2))
    assert not inputs[0].is_contiguous()
    for queries in (1, 5):
        strided = (inputs[0][:, :, :queries], inputs[1], inputs[2])
        ours = scaled_dot_product_attention(*strided, implementation=implementation)
        torch.testing.assert_close(ours, oracle(strided, None), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 8.0])
def test_error_against_fp64_is_at_most_that_of_pytorch(implementation: str, dtype: torch.dtype, scale: float):
    """With values as wide as the keys, where PyTorch has its best kernel."""
    rounded = (x.detach().to(dtype) for x in heads(queries=99, keys=99, scale=scale, value_width=6))
    exact = tuple(x.double().requires_grad_() for x in rounded)

    def errors(attend: Callable[..., Tensor]) -> list[float]:
        reference = with_gradients(F.scaled_dot_product_attention(*exact, is_causal=True), exact)
        narrow = tuple(x.detach().to(dtype).requires_grad_() for x in exact)
        output = attend(*narrow, is_causal=True)
        cotangent = torch.arange(output.numel(), dtype=torch.float64).cos().view_as(output)
        results = [output, *torch.autograd.grad((output.double() * cotangent).sum(), narrow)]
        pairs = zip(results, reference, strict=True)
        return [
            float((ours.double() - truth).norm().detach() / truth.norm().detach()) for ours, truth in pairs
        ]

    theirs = errors(F.scaled_dot_product_attention)
    ours = errors(
        lambda *x, **rules: scaled_dot_product_attention(*x, **rules, implementation=implementation)
    )
    assert all(mine <= 1.5 * reference for mine, reference in zip(ours, theirs, strict=True)), (ours, theirs)


def test_extreme_scores_stay_finite():
    query, key, value = (x.detach().float() for x in heads(scale=1e4))
    for implementation in IMPLEMENTATIONS:
        output = scaled_dot_product_attention(query, key, value, implementation=implementation)
        torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value))


@pytest.mark.parametrize("implementation", ["by_hand", "tiled"])
def test_autocast_does_not_coarsen_the_scores(implementation: str):
    inputs = tuple(x.detach().bfloat16() for x in heads())
    outside = scaled_dot_product_attention(*inputs, implementation=implementation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = scaled_dot_product_attention(*inputs, implementation=implementation)
    assert torch.equal(inside, outside)


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
def test_dropout_drops_weights_as_pytorch_does(implementation: str):
    """PyTorch's plain implementation draws the same numbers from the same seed."""
    inputs = heads(queries=8, keys=8)
    with sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(0)
        theirs = F.scaled_dot_product_attention(*inputs, dropout_p=0.4)
        torch.manual_seed(0)
        ours = scaled_dot_product_attention(*inputs, dropout=0.4, implementation=implementation)
    assert_same(with_gradients(ours, inputs), with_gradients(theirs, inputs))
    without = scaled_dot_product_attention(*inputs, implementation=implementation)
    assert not torch.allclose(ours, without)


def test_tiled_refuses_dropout():
    with pytest.raises(ValueError, match=r"no dropout.*0\.1"):
        scaled_dot_product_attention(*heads(), dropout=0.1, implementation="tiled")


def test_the_attention_map_sums_to_one_and_makes_the_output():
    query, key, value = heads(kv=2)
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[3] = False
    weights = attention_weights(query, key, mask=mask, is_causal=True, window=2, scale=0.7)
    assert weights.shape == (2, 4, 5, 5)
    totals = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64).expand(2, 4, 5)
    torch.testing.assert_close(weights.sum(-1), totals)
    output = scaled_dot_product_attention(query, key, value, mask=mask, is_causal=True, window=2, scale=0.7)
    torch.testing.assert_close(weights @ value.repeat_interleave(2, dim=1), output, rtol=1e-10, atol=1e-12)


def test_unknown_implementation_is_refused():
    with pytest.raises(
        ValueError, match="implementation is 'flash', expected one of 'fused', 'by_hand', 'tiled', 'triton'"
    ):
        scaled_dot_product_attention(*heads(), implementation="flash")


@pytest.mark.parametrize("autocast", [False, True])
def test_training_in_half_precision_rounds_no_more_than_once_on_a_cpu(autocast: bool) -> None:
    wide = [x.detach().float() for x in heads(queries=9, keys=9, value_width=6)]
    half = [x.bfloat16().requires_grad_() for x in wide]
    exact = [x.detach().double().requires_grad_() for x in half]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = scaled_dot_product_attention(*half, is_causal=True)
    assert output.dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(*exact, is_causal=True)
    torch.testing.assert_close(output.double(), expected, rtol=2**-8, atol=1e-6)
    cotangent = torch.ones_like(output)
    found = torch.autograd.grad(output, half, cotangent)
    for ours, theirs in zip(found, torch.autograd.grad(expected, exact, cotangent.double()), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2**-8, atol=1e-6)
