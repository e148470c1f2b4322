"""Checks of probabilities, distributions and class indices."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def check_probabilities(p: Tensor, name: str) -> None:
    """Check that each element of `p` (...) is in [0, 1].

    The check reads the values, so it waits for the device.

    Raises:
        ValueError: An element is outside [0, 1] or NaN.
    """
    _check_range(p, 1.0, name)


def check_distribution(p: Tensor, name: str) -> None:
    """Check that each element of `p` (..., C) is in [0, 1] and that each row sums to 1.

    A sum may be off by √ε of the type (1.5e-8 in fp64, 3.5e-4 in fp32, 0.09 in bf16). That is more than
    rounding causes, and far less than the error of logits or counts passed by mistake. The check reads the
    values, so it waits for the device.

    Raises:
        ValueError: A row is not a distribution.
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
    """Replace the error of a look-up with class indices outside [0, `classes`) by an error that shows them.

    A check before the look-up would wait for an accelerator at every step. On an accelerator the look-up
    itself stops with a device assertion.

    Raises:
        ValueError: The look-up failed because an index is out of range.
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
