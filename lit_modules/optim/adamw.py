"""AdamW by hand, to compare with PyTorch's fused kernel; both take the same steps."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from lit_modules.optim.adam import Adam


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    With learning rate γ and decay λ, each step begins with

        θ ← (1 − γλ) θ

    and goes on as in `Adam` without a penalty. The decay is not part of the running means m and v. Adam with
    an L2 penalty includes it there, and so divides it by the size of the gradient.

    Args:
        params: Parameters, or groups of parameters with their own options.
        lr: Learning rate γ.
        betas: Decay rates β₁ and β₂ of the running means m and v.
        eps: ε, outside the root.
        weight_decay: λ.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _decay(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Shrink the parameter; the gradient stays the same."""
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return gradient
