"""Muon: orthogonalised momentum for the matrices of a network, AdamW for all other parameters."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from lit_modules.functional.cuda_graph import CudaGraph
from lit_modules.functional.precision import multiplies_bf16
from lit_modules.optim.adam import adam_update

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of x ← ax + bx³ + cx⁵, which is steep at zero and moves singular values into about [0.7, 1.2]."""


def orthogonalize(matrices: Tensor, *, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """Move every singular value of a matrix towards one and keep its singular vectors.

    The quintic Newton–Schulz iteration of Jordan et al. 2024 ("Muon") starts from X = G / ‖G‖_F and repeats

        X ← aX + b (XXᵀ) X + c (XXᵀ)² X

    It applies the same polynomial to each singular value. It needs only matrix products, so it is fast on
    accelerators, and it is stable in bfloat16.

    Args:
        matrices: One matrix or a stack of matrices, (*, M, N); zeros stay zeros.
        steps: Number of iterations.
        dtype: Precision of the products; by default that of the matrices.

    Returns:
        (*, M, N), in the dtype of the matrices.
    """
    a, b, c = _COEFFICIENTS
    norm = torch.linalg.matrix_norm(matrices, keepdim=True).clamp_min(1e-7)  # (*, 1, 1)
    x = (matrices / norm).to(dtype or matrices.dtype).reshape(-1, *matrices.shape[-2:])  # (S, M, N)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT  # so that the Gram matrix below is the smaller of the two
    for _ in range(steps):
        gram = x @ x.mT  # (S, K, K) with K = min(M, N)
        quintic = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b·G + c·G² with a single rounding
        x = torch.baddbmm(x, quintic, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype).reshape(matrices.shape)


class Muon(Optimizer):
    """Muon for the groups with the `rule` `"muon"`, AdamW for those with the `rule` `"adamw"`.

    With gradient G, momentum μ, learning rate γ and decay λ, a Muon step on a weight of M rows and N columns
    is (Jordan et al. 2024, with Nesterov momentum)

        B ← μB + (1 − μ) G
        W ← (1 − γλ) W − γ · √max(1, M/N) · O(μB + (1 − μ) G)

    where O is `orthogonalize`. The filters (out, in, height, width) of a convolution count as `out` rows.
    Matrices of the same shape are stacked, so a deep network needs a few large products instead of many small
    ones.

    One optimizer with two rules keeps Lightning's automatic optimisation and one schedule for both.

    Args:
        params: Parameter groups; each has a `rule` and may override the options below.
        lr: Learning rate γ.
        weight_decay: Decoupled decay λ, for both rules.
        momentum: μ.
        newton_schulz_steps: Number of iterations of `orthogonalize`.
        betas: AdamW's β₁ and β₂.
        eps: AdamW's ε.
        fused: Whether the AdamW groups use PyTorch's fused kernel; their device must have one.
        by_hand: Whether they use `adam_update` instead of PyTorch's function.

    Raises:
        ValueError: A group has another rule, or a Muon group has a weight with fewer than two dimensions.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        newton_schulz_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = False,
        by_hand: bool = False,
    ) -> None:
        defaults = {
            "rule": "muon",
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "newton_schulz_steps": newton_schulz_steps,
            "betas": betas,
            "eps": eps,
            "fused": fused,  # this name makes `load_state_dict` move AdamW's step counts to the device
        }
        super().__init__(params, defaults)
        self.by_hand = by_hand
        self._graphs: dict[tuple[Any, ...], CudaGraph] = {}
        for group in self.param_groups:
            if group["rule"] not in ("muon", "adamw"):
                raise ValueError(f'a group has rule {group["rule"]!r}, expected "muon" or "adamw"')
            for parameter in group["params"]:
                if group["rule"] == "muon" and parameter.ndim < 2:
                    raise ValueError(
                        f"Muon got a weight of shape {tuple(parameter.shape)}, expected two dimensions or "
                        'more; give it to a group with rule "adamw"'
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient by the rule of its group.

        The closure, which Lightning passes, recomputes the loss and its gradients first; return its loss.
        """
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["rule"] == "muon":
                self._muon_step(parameters, group)
            else:
                self._adamw_step(parameters, group)
        return loss

    def _muon_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        alike = defaultdict(list)  # parameters that can be stacked, by shape, dtype and device
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            alike[parameter.shape, parameter.dtype, parameter.device].append(parameter)
        for (shape, dtype, device), members in alike.items():
            gradients: list[Tensor] = [parameter.grad for parameter in members]  # type: ignore[misc]
            momenta = [self.state[parameter]["momentum"] for parameter in members]
            # One call for all members, and on a GPU one kernel; on a CPU the results are those of a loop.
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
            updates = self._orthogonalize(
                torch.stack(directions).flatten(2),  # (members, M, N)
                steps=group["newton_schulz_steps"],
                dtype=torch.bfloat16 if dtype == torch.float32 and multiplies_bf16(device) else dtype,
            )
            rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1:].numel()))
            torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(members, updates.view(-1, *shape).unbind(), alpha=-rate)

    def _orthogonalize(self, matrices: Tensor, *, steps: int, dtype: torch.dtype) -> Tensor:
        """Call `orthogonalize`. On a GPU, each shape has one CUDA graph, because the products are small."""
        can_record = matrices.device.type == "cuda" and type(matrices) is Tensor
        if not can_record or matrices.device.index != torch.cuda.current_device():  # recording is on that one
            return orthogonalize(matrices, steps=steps, dtype=dtype)
        key = (matrices.shape, matrices.dtype, matrices.device, steps, dtype)
        if key not in self._graphs:
            iterate = partial(orthogonalize, steps=steps, dtype=dtype)
            self._graphs[key] = CudaGraph(iterate, [matrices])
        return self._graphs[key](matrices)

    def _adamw_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if self.by_hand:
            for parameter in parameters:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                adam_update(parameter, parameter.grad, self.state[parameter], group)  # type: ignore[arg-type]
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                where = parameter.device if group["fused"] else "cpu"
                state["step"] = torch.zeros((), dtype=torch.float32, device=where)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
