"""Flash attention in Triton against the formula in fp64: output, log-sum-exp and all gradients.

On a machine with a CUDA GPU the kernels run there. Elsewhere one test starts a process in which Triton
interprets them, because the interpreter has to be chosen before Triton is imported.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.layers.scaled_dot_product import scaled_dot_product_attention
from lit_modules.layers.triton_attention import triton_attention

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
runs_kernels = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETS, reason="runs in the process of test_the_kernels_in_the_interpreter"
)
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}
"""Largest error, relative to the largest value: some roundings of the type."""


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda" or INTERPRETS, reason="the kernels run in this process")
def test_the_kernels_in_the_interpreter() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(Path(__file__))],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed, 2 skipped" in ran.stdout  # this test, and the one of a CPU


def heads(
    queries: int, keys: int, *, number: int = 2, kv: int = 1, width: int = 32, value_width: int | None = None
) -> list[Tensor]:
    """Random queries, keys and values of a batch of two."""
    generator = torch.Generator().manual_seed(queries + 10 * keys)
    sizes = [(number, queries, width), (kv, keys, width), (kv, keys, value_width or width)]
    return [torch.randn(2, *size, generator=generator) for size in sizes]


def visible_keys(queries: int, keys: int, is_causal: bool, window: int | None, mask: Tensor | None) -> Tensor:
    distance = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
    visible = torch.ones_like(distance, dtype=torch.bool)
    if is_causal:
        visible &= distance >= 0
    if window is not None:
        visible &= distance.abs() < window
    return visible if mask is None else visible & mask


def oracle(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Compute output and log-sum-exp from all scores."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~visible, -torch.inf)
    lse = scores.logsumexp(-1)
    return (scores - lse.masked_fill(lse == -torch.inf, 0).unsqueeze(-1)).exp() @ value, lse


def check(
    inputs: list[Tensor], dtype: torch.dtype = torch.float32, *, bound: float | None = None, **rules: Any
) -> None:
    """Compare with the oracle; the cotangents of output and log-sum-exp are random."""
    rounded = [x.to(dtype) for x in inputs]
    theirs = [x.double().requires_grad_() for x in rounded]
    ours = [x.to(DEVICE).requires_grad_() for x in rounded]
    on_device = {k: v.to(DEVICE) if isinstance(v, Tensor) else v for k, v in rules.items()}
    output, lse = triton_attention(*ours, **on_device)
    visible = visible_keys(
        inputs[0].shape[2],
        inputs[1].shape[2],
        rules.get("is_causal", False),
        rules.get("window"),
        rules.get("mask"),
    )
    expected, expected_lse = oracle(*theirs, visible)
    assert output.dtype == dtype
    assert lse.dtype == torch.float32
    seen = (expected_lse != -torch.inf).detach()
    assert torch.equal(lse.cpu() != -torch.inf, seen)
    generator = torch.Generator().manual_seed(0)
    by_output = torch.randn(output.shape, generator=generator).to(dtype)
    by_lse = torch.randn(lse.shape, generator=generator)
    torch.autograd.backward([output, lse[seen.to(DEVICE)]], [by_output.to(DEVICE), by_lse[seen].to(DEVICE)])
    torch.autograd.backward([expected, expected_lse[seen]], [by_output.double(), by_lse[seen].double()])
    pairs = [(output, expected), *((a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))]
    for actual, wanted in pairs:
        error = (actual.detach().cpu().double() - wanted).abs().max()
        assert error <= (bound or BOUNDS[dtype]) * max(1.0, wanted.abs().max())
    torch.testing.assert_close(lse[seen].detach().cpu().double(), expected_lse[seen], rtol=1e-5, atol=1e-5)


@runs_kernels
@pytest.mark.parametrize(
    ("width", "dtype"),
    [
        *itertools.product((32, 64, 96, 128), (torch.float32, torch.bfloat16)),
        (32, torch.float16),
    ],
)
def test_every_width_and_type(width: int, dtype: torch.dtype) -> None:
    check(heads(20, 20, width=width), dtype, is_causal=width in (64, 96))


@runs_kernels
@pytest.mark.parametrize("kv", [4, 2, 1])
def test_heads_may_share_keys(kv: int) -> None:
    check(heads(9, 11, number=4, kv=kv, width=20, value_width=12), is_causal=True)


@runs_kernels
@pytest.mark.parametrize(
    ("queries", "keys", "rules"),
    [
        (150, 70, {}),
        (150, 70, {"is_causal": True}),
        (70, 150, {"is_causal": True}),
        (150, 130, {"window": 40}),
        (130, 150, {"is_causal": True, "window": 3}),
        (1, 140, {"is_causal": True, "window": 100}),
    ],
)
def test_several_tiles(queries: int, keys: int, rules: dict[str, Any]) -> None:
    """Also T ≠ S, where causality is aligned bottom-right and early queries may see nothing."""
    check(heads(queries, keys, number=1, width=16), torch.bfloat16, **rules)


@runs_kernels
@pytest.mark.parametrize(
    ("shape", "is_causal"), [("B11S", False), ("B11S", True), ("11TS", False), ("BHTS", True)]
)
def test_masks(shape: str, is_causal: bool) -> None:
    """The last row of the batch sees no key at all."""
    sizes = {"B": 2, "H": 2, "T": 35, "S": 40, "1": 1}
    mask = torch.rand(*(sizes[s] for s in shape), generator=torch.Generator().manual_seed(3)) > 0.3
    mask[-1, ..., : 5 if shape == "11TS" else 40] = False
    check(heads(35, 40), mask=mask, is_causal=is_causal)


@runs_kernels
def test_hidden_keys_have_no_effect_not_even_nan() -> None:
    query, key, value = (x.to(DEVICE) for x in heads(5, 6))
    mask = torch.tensor([True, True, False, True, True, False], device=DEVICE)
    clean = triton_attention(query, key, value, mask=mask[None, None, None])
    key[:, :, ~mask], value[:, :, ~mask] = torch.nan, torch.inf
    dirty = triton_attention(query, key, value, mask=mask[None, None, None])
    assert torch.equal(clean.output, dirty.output)
    assert torch.equal(clean.lse, dirty.lse)


@runs_kernels
def test_two_attentions_are_merged_by_their_log_sum_exps() -> None:
    query, key, value = (x.to(DEVICE) for x in heads(6, 20))
    whole = triton_attention(query, key, value)
    parts = [
        triton_attention(query, key[:, :, part], value[:, :, part]) for part in (slice(0, 7), slice(7, 20))
    ]
    shares = torch.stack([part.lse for part in parts]).softmax(0).unsqueeze(-1)
    merged = sum(share * part.output for share, part in zip(shares, parts, strict=True))
    torch.testing.assert_close(merged, whole.output, rtol=1e-5, atol=1e-5)


@runs_kernels
def test_any_memory_layout_and_mixed_types_under_autocast() -> None:
    query, key, value = (x.to(DEVICE) for x in heads(5, 7, kv=2))
    expected = triton_attention(query, key, value).output
    odd = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (query, key)]
    odd.append(value.mT.contiguous().mT)
    torch.testing.assert_close(triton_attention(*odd).output, expected)
    with torch.autocast(DEVICE, torch.bfloat16):
        narrow = triton_attention(query, key, value.bfloat16()).output
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, expected, rtol=0.02, atol=0.02)


@runs_kernels
def test_large_scores_do_not_overflow() -> None:
    query, key, value = heads(5, 6)
    check([100 * query, 100 * key, value], is_causal=True, bound=1e-2)  # an fp32 score of 5e4 is ±0.002


@runs_kernels
def test_it_is_a_kind_of_scaled_dot_product_attention() -> None:
    inputs = [x.to(DEVICE) for x in heads(5, 6)]
    expected = scaled_dot_product_attention(*inputs, is_causal=True, implementation="by_hand")
    actual = scaled_dot_product_attention(*inputs, is_causal=True, implementation="triton")
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(INTERPRETS, reason="the interpreter runs on a CPU")
def test_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a CUDA GPU, but the tensors are on cpu"):
        triton_attention(*heads(2, 2))


@pytest.mark.parametrize(
    ("width", "dtype", "scale", "message"),
    [
        (129, torch.float32, None, "heads up to 128 wide, got 129"),
        (8, torch.float64, None, r"fp32, bf16 or fp16, got torch\.float64"),
        (8, torch.float32, 0.0, r"scale above 0, got 0\.0"),
    ],
)
def test_what_the_kernels_cannot_compute_is_refused(
    width: int, dtype: torch.dtype, scale: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        triton_attention(*(x.to(dtype) for x in heads(2, 2, width=width)), scale=scale)
