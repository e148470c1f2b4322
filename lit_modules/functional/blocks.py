"""Walking through a tall matrix a few rows at a time, so that temporaries stay small."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements in a block. A CPU core's share should stay in its own cache; an accelerator needs blocks that are
# large enough to fill it, and 2²⁴ fp32 numbers are still only 64 MiB.
_PER_CPU_THREAD = 2**17
_PER_ACCELERATOR = 2**24


def row_blocks(x: Tensor) -> Iterator[slice]:
    """Yields slices that cover the N rows of `x` (N, C) in order; at least one, if only an empty one.

    Under `torch.compile` it is one slice: the compiler fuses the temporaries away, and would unroll the loop.
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
    """The blocks' results under one another; a single one as it is, without a copy."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)
