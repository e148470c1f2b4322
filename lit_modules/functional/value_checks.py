"""What the losses refuse: values that are no probabilities, no distributions, no classes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def check_probabilities(p: Tensor, name: str) -> None:
    """Refuses `p` (...) unless each element lies in [0, 1]. Waits for the device, as it looks at the values.

    Raises:
        ValueError: it doesn't, or is NaN.
    """
    _check_range(p, 1.0, name)


def check_distribution(p: Tensor, name: str) -> None:
    """Refuses `p` (..., C) unless its elements lie in [0, 1] and each row sums to 1.

    A sum may be off by √ε of its type (1.5e-8 in fp64, 3.5e-4 in fp32, 0.09 in bf16): more than rounding
    causes, far less than logits or counts mistaken for probabilities. Waits for the device, as it looks at
    the values.

    Raises:
        ValueError: it isn't a distribution.
    """
    slack = math.sqrt(torch.finfo(p.dtype).eps)
    _check_range(p, 1 + slack, name)
    errors = (p.detach().sum(-1, dtype=torch.promote_types(p.dtype, torch.float32)) - 1).abs()
    worst = float(errors.max()) if errors.numel() else 0
    if worst > slack:
        raise ValueError(f"{name} must sum to 1 over the last dimension; a sum is off by {worst:g}")


def _check_range(p: Tensor, highest: float, name: str) -> None:
    if p.numel() == 0:
        return
    low, high = (float(bound) for bound in torch.aminmax(p.detach()))
    if not (low >= 0 and high <= highest):  # NaN fails both
        raise ValueError(f"{name} must be probabilities in [0, 1]; got values from {low:g} to {high:g}")


@contextmanager
def refusing_unknown_classes(indices: Tensor, classes: int) -> Iterator[None]:
    """Turns a look-up's complaint about `indices` outside [0, `classes`) into an error that shows them.

    Looking first would wait for an accelerator at every step. There, the look-up asserts on the device.

    Raises:
        ValueError: the enclosed look-up complained.
    """
    try:
        yield
    except (RuntimeError, IndexError) as error:
        if "out of bounds" not in str(error):
            raise
        low, high = int(indices.min()), int(indices.max())
        raise ValueError(
            f"class indices must lie in [0, {classes}); got values from {low} to {high}"
        ) from None
