"""Clipping of the gradient's norm by hand."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place until their joint Euclidean norm is at most `max_norm`.

    The direction stays the same, and smaller gradients do not change (Pascanu et al. 2013, algorithm 1):
    g ← g · min(1, max_norm / ‖g‖). Nothing waits for the device, because the factor stays a tensor.

    Args:
        parameters: The parameters; those without a gradient are skipped.
        max_norm: The largest allowed norm.

    Returns:
        The norm before clipping, a scalar. If it is not finite, the gradients are not usable.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack([entry.to(norms[0].device) for entry in norms]))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return norm
