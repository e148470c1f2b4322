"""Adam by hand, to compare with PyTorch's fused kernel; both take the same steps."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer


class Adam(Optimizer):
    """Adam with an L2 penalty (Kingma & Ba 2015, algorithm 1).

    With gradient g, learning rate γ and penalty λ, step t is

        g ← g + λθ
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        θ ← θ − γ · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)

    m and v start at zero and are therefore too small at first; the division by 1 − βᵗ corrects this.

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
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        The closure, which Lightning passes, recomputes the loss and its gradients first; return its loss.
        """
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = self._decay(parameter, cast(Tensor, parameter.grad), group)
                    adam_update(parameter, gradient, self.state[parameter], group)
        return loss

    def _decay(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the gradient with that of the penalty."""
        return gradient.add(parameter, alpha=group["weight_decay"]) if group["weight_decay"] else gradient


def adam_update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Move the running means, then the parameter, in place.

    Args:
        parameter: θ.
        gradient: g.
        state: `step`, `mean` and `square` of the parameter; empty before the first step.
        group: `lr`, `betas` and `eps`.
    """
    if not state:
        state["step"] = 0
        state["mean"] = torch.zeros_like(parameter)
        state["square"] = torch.zeros_like(parameter)
    state["step"] += 1
    mean, square = state["mean"], state["square"]
    beta1, beta2 = group["betas"]

    mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    unbiased_mean = mean / (1 - beta1 ** state["step"])
    unbiased_square = square / (1 - beta2 ** state["step"])
    parameter.addcdiv_(unbiased_mean, unbiased_square.sqrt_().add_(group["eps"]), value=-group["lr"])
