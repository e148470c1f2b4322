"""A linear layer's product as a plain function, by whichever library of PyTorch's is fastest at it.

Shape letters: N rows, I inputs, O outputs.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def fast_linear(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """A function x → x Wᵀ + b, without gradients.

    In fp32 on a CPU it is oneDNN's, where PyTorch was built with it. `F.linear` takes MKL, which on an AMD
    processor is 2.5 times as slow and for a single row uses one core alone.

    Args:
        weight: (O, I).
        bias: (O,).

    Returns:
        From (N, I) to (N, O).
    """
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what compiled graphs call
    if onednn is None or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return partial(F.linear, weight=weight, bias=bias)
    product = onednn.default
    return lambda x: product(x, weight, bias, "none", [], "")
