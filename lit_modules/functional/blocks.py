"""Process a tall matrix in blocks of rows, to keep temporary tensors small."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements in a block. A CPU core's block should fit in the core's cache. An accelerator needs blocks large
# enough to use it fully; 2²⁴ fp32 numbers are 64 MiB.
_PER_CPU_THREAD = 2**17
_PER_ACCELERATOR = 2**24


def row_blocks(x: Tensor) -> Iterator[slice]:
    """Yield slices that cover the N rows of `x` (N, C) in order.

    There is at least one slice; for N = 0 it is empty. Under `torch.compile` there is exactly one: the
    compiler fuses the temporary tensors, and would unroll a loop.
    """
    rows, columns = x.shape
    if torch.compiler.is_compiling():
        yield slice(0, rows)
        return
    budget = _PER_CPU_THREAD * torch.get_num_threads() if x.device.type == "cpu" else _PER_ACCELERATOR
    step = max(1, budget // max(columns, 1))
    for start in range(0, max(rows, 1), step):
        yield slice(start, min(start + step, rows))


def join(blocks: list[Tensor]) -> Tensor:
    """Concatenate the blocks' results; return a single one without a copy."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)
