"""AdamW by hand, to compare with PyTorch's fused kernel; both take the same steps."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2; Kingma & Ba 2015).

    With gradient g, learning rate γ and decay λ, step t is

        θ ← (1 − γλ) θ
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        θ ← θ − γ · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)

    m and v start at zero and are therefore too small at first; the division by 1 − βᵗ corrects this. The
    decay is not part of m and v. Adam with an L2 penalty includes it there, and so divides it by the size of
    the gradient.

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
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = cast(Tensor, parameter.grad)
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        mean, square = state["mean"], state["square"]
        beta1, beta2 = group["betas"]

        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        unbiased_mean = mean / (1 - beta1 ** state["step"])
        unbiased_square = square / (1 - beta2 ** state["step"])
        parameter.addcdiv_(unbiased_mean, unbiased_square.sqrt_().add_(group["eps"]), value=-group["lr"])
