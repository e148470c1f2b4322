"""Causal attention (by hand, tiled, fused, Triton, PyTorch): time and peak memory, forward and backward.

Shape letters: B batch, H heads, H_kv key/value heads, T tokens, D head width.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmark.harness import Cell, Report, interleaved, timed
from experiments.benchmark.memory import MEBIBYTE, peak_memory_mib
from experiments.errors import UserError
from experiments.training.machine import default_device
from lit_modules.configs.transformer import AttentionImplementation
from lit_modules.layers.scaled_dot_product import scaled_dot_product_attention

BASELINE = "PyTorch"
WAYS = (BASELINE, "fused", "tiled", "by_hand", *(("triton",) if torch.cuda.is_available() else ()))
LENGTHS = (128, 256, 512, 1024, 2048, 4096)

Shape = tuple[int, int, int, int, int]  # B, H, H_kv, T, D
Inputs = tuple[Tensor, Tensor, Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes of the workload."""
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="batch size (1)")
    parser.add_argument("--heads", type=int, default=8, metavar="H", help="query heads (8)")
    parser.add_argument("--kv-heads", type=int, metavar="H", help="key/value heads (same number)")
    parser.add_argument("--head-dim", type=int, default=64, metavar="D", help="width of a head (64)")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=LENGTHS, metavar="T", help="tokens (128 … 4096)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(float32)")


def run(options: argparse.Namespace) -> Report:
    """Measure each implementation at each length, on the accelerator if there is one, else on the CPU."""
    kv_heads = options.heads if options.kv_heads is None else options.kv_heads
    sizes = (options.batch, options.heads, kv_heads, options.head_dim, *options.lengths)
    if min(sizes) < 1:
        raise UserError(f"sizes {', '.join(map(str, sizes))}: each must be ≥ 1")
    if options.heads % kv_heads:
        raise UserError(f"--heads {options.heads} is not a multiple of --kv-heads {kv_heads}")
    lengths = (8, 16) if options.quick else options.lengths
    repeats = options.repeats or (2 if options.quick else 7)
    device = default_device()
    report = Report(title=f"Causal attention on {device.type}, {options.dtype}")
    for length in lengths:
        shape = (options.batch, options.heads, kv_heads, length, options.head_dim)
        report.rows += _rows(shape, options.dtype, device, repeats)
    report.notes = [
        f"Batch size {options.batch}, {options.heads} query heads, {kv_heads} key/value heads of width "
        f"{options.head_dim}; "
        f"{repeats} turns; both: forward and backward.",
        f"×: time divided by that of {BASELINE}'s kernel, turn by turn; median.",
        "MiB: rise of peak memory by the call, including inputs, result and gradients.",
        *_growth(report, lengths),
    ]
    return report


def _rows(shape: Shape, dtype: str, device: torch.device, repeats: int) -> list[dict[str, Cell]]:
    """Return one row for each implementation at one length."""
    inputs = make_inputs(shape, dtype, device)
    calls = max(
        1, 2048 // shape[3]
    )  # A single short call would be slowed by caches that the call before it filled.
    forward, both = (
        interleaved(
            {way: timed(partial(attend, way, inputs, backward=backward), calls=calls) for way in WAYS},
            repeats=repeats,
            warmup=2,
        )
        for backward in (False, True)
    )
    return [
        {
            "T": shape[3],
            "way": way,
            "forward ms": forward[way].scaled(1e3),
            "×": forward[way].ratio_to(forward[BASELINE]).median,
            "both ms": both[way].scaled(1e3),
            "both ×": both[way].ratio_to(both[BASELINE]).median,
            "forward MiB": _peak_mib(device, way, shape, dtype, False),
            "both MiB": _peak_mib(device, way, shape, dtype, True),
        }
        for way in WAYS
    ]


def make_inputs(shape: Shape, dtype: str, device: torch.device) -> Inputs:
    """Return queries (B, H, T, D), keys and values (B, H_kv, T, D) from a fixed seed."""
    batch, heads, kv_heads, length, width = shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(batch, number, length, width, generator=generator).to(device, getattr(torch, dtype))
        for number in (heads, kv_heads, kv_heads)
    )
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


def attend(way: str, inputs: Inputs, *, backward: bool) -> tuple[Tensor, ...]:
    """Return the result (B, H, T, D), and with `backward` the gradients of the inputs."""
    with torch.set_grad_enabled(backward):
        if way == BASELINE:
            grouped = inputs[0].shape[1] != inputs[1].shape[1]
            output = F.scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=grouped)
        else:
            implementation = cast(AttentionImplementation, way)
            output = scaled_dot_product_attention(*inputs, is_causal=True, implementation=implementation)
    return (output, *torch.autograd.grad(output.sum(), inputs)) if backward else (output,)


def _peak_mib(device: torch.device, way: str, shape: Shape, dtype: str, backward: bool) -> float | None:
    arguments = (way, shape, dtype, backward)
    if device.type == "cpu":
        small = (*shape[:3], 16, shape[4])
        return peak_memory_mib(_build_and_attend, *arguments, warmup_args=(way, small, dtype, backward))
    if device.type != "cuda":
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _build_and_attend(*arguments, device=device)
    return (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE


def _build_and_attend(
    way: str, shape: Shape, dtype: str, backward: bool, device: torch.device | str = "cpu"
) -> None:
    attend(way, make_inputs(shape, dtype, torch.device(device)), backward=backward)


def _growth(report: Report, lengths: Sequence[int]) -> list[str]:
    """Return by how much the memory of each implementation grows over the last two lengths."""
    if len(lengths) < 2:
        return []
    before, last = sorted(lengths)[-2:]
    peaks = {(row["T"], row["way"]): row["both MiB"] for row in report.rows}
    factors = []
    for way in WAYS:
        low, high = peaks[before, way], peaks[last, way]
        if isinstance(low, float) and isinstance(high, float) and low > 0:
            factors.append(f"{way} {high / low:.2f}")
    return [f"From T = {before} to {last} memory (both) grows by a factor of: {', '.join(factors)}."]
