"""SGD with momentum by hand, to compare with PyTorch's kernel; both take the same steps."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    With gradient g, learning rate γ, momentum μ and decay λ, a step is

        g ← g + λ θ
        v ← μ v + g          (the first v is g)
        θ ← θ − γ v          or, with Nesterov's momentum, θ ← θ − γ (g + μ v)

    As in PyTorch, the learning rate is not part of v. A change of it acts on the whole velocity at once.

    Args:
        params: Parameters, or groups of parameters with their own options.
        lr: Learning rate γ.
        momentum: μ.
        nesterov: Whether to look one step ahead.
        weight_decay: λ.

    Raises:
        ValueError: Nesterov's momentum without momentum.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum > 0:
            raise ValueError(f"nesterov needs a momentum above 0; got {momentum}")
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, defaults)

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

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad + group["weight_decay"] * parameter
        if group["momentum"]:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
            gradient = gradient + group["momentum"] * velocity if group["nesterov"] else velocity
        parameter.sub_(gradient, alpha=group["lr"])
