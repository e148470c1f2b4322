"""Gradients.

Derivatives by hand, and what an optimizer does with them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.demo.outcome import Outcome, Result, Value, numbers
from lit_modules.functional import backward, mse
from lit_modules.optim.gradient_clipping import clip_grad_norm
from lit_modules.optim.sgd import SGD


def tensor_and_grad() -> Outcome:
    """Follow a gradient backwards through a linear layer and a ReLU.

    Formula: y = relu(w · x + b), L = y²: ∂L/∂w = 2y [y > 0] x, ∂L/∂b = 2y [y > 0]
    Source: Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors"
    Mistake: A second `backward()` without `zero_grad()`: gradients add up.
    Code: lit_modules/functional/backward.py
    """
    x, w, b = numbers((1, 2, 3)), numbers((0.5, -1, 0.25)).requires_grad_(), numbers(1).requires_grad_()
    ours = torch.autograd.grad(backward.relu(backward.linear(x, w, b)).square().sum(), (w, b))
    theirs = torch.autograd.grad(F.relu(F.linear(x, w, b)).square().sum(), (w, b))
    for _ in range(2):
        F.relu(F.linear(x, w, b)).square().sum().backward()
    assert w.grad is not None
    y = F.relu(F.linear(x, w, b)).item()
    return Outcome(
        inputs={"x": x, "w": w, "b": b},
        results=[
            Result("y", backward.relu(backward.linear(x, w, b)), "F.relu(F.linear)", numbers((y,))),
            Result("∂L/∂w", ours[0], "autograd", theirs[0], wrong=("backward() twice", w.grad)),
            Result("∂L/∂w by the formula", 2 * y * x, "autograd", theirs[0]),
            Result("∂L/∂b", ours[1], "autograd", theirs[1]),
        ],
    )


def neuron() -> Outcome:
    """Train one neuron by backpropagation.

    Formula: y = σ(w · x + b), L = (y − t)²: ∂L/∂w = 2 (y − t) y (1 − y) x
    Source: Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors"
    Mistake: Leaving out y (1 − y), the derivative of the sigmoid: this is a gradient of cross-entropy.
    Code: lit_modules/functional/backward.py
    """
    x, t, start = numbers((1, 2)), numbers(1), numbers(0.5, -0.3, 0.1)  # w_1, w_2, b

    def by_hand(w: Tensor) -> Tensor:
        return mse(backward.sigmoid(backward.linear(x, w[None, :2], w[2:])).flatten(), t)

    def library(w: Tensor) -> Tensor:
        return F.mse_loss(torch.sigmoid(F.linear(x, w[None, :2], w[2:])).flatten(), t)

    def no_slope(w: Tensor) -> Tensor:
        z = F.linear(x, w[None, :2], w[2:]).flatten()
        return F.mse_loss(z + (torch.sigmoid(z) - z).detach(), t)  # the value of σ with the slope 1

    return Outcome(
        inputs={"x": x, "t": t, "w_1, w_2, b": start, "learning rate": 0.5},
        results=[
            Result(
                "four steps of gradient descent",
                _steps(by_hand, start, lambda w: torch.optim.SGD([w], lr=0.5)),
                "autograd",
                _steps(library, start, lambda w: torch.optim.SGD([w], lr=0.5)),
                wrong=("no y (1 − y)", _steps(no_slope, start, lambda w: torch.optim.SGD([w], lr=0.5))),
                columns=("loss", "w_1", "w_2", "b"),
            )
        ],
    )


def sgd_momentum() -> Outcome:
    """Descend with a velocity that remembers earlier gradients.

    Formula: v ← μ v + g, θ ← θ − γ v; Nesterov: θ ← θ − γ (g + μ v)
    Source: Polyak 1964; Sutskever et al. 2013, "On the importance of initialization and momentum"
    Mistake: v ← μ v + (1 − μ) g: steps are 1 / (1 − μ) times too small for the learning rate.
    Code: lit_modules/optim/sgd.py
    """
    start = numbers(4, 1)

    def loss(x: Tensor) -> Tensor:
        return (x * x * numbers(1, 10)).sum() / 2

    results = [
        Result(
            name,
            _steps(loss, start, partial(_momentum, SGD, nesterov=nesterov)),
            "torch.optim.SGD",
            _steps(loss, start, partial(_momentum, torch.optim.SGD, nesterov=nesterov)),
            wrong=(
                "averaged gradient",
                _steps(loss, start, partial(_momentum, torch.optim.SGD, dampening=0.9)),
            )
            if not nesterov
            else None,
            columns=("loss", "x_1", "x_2"),
        )
        for name, nesterov in (("momentum, four steps", False), ("Nesterov's momentum, four steps", True))
    ]
    inputs: dict[str, Value] = {
        "x_1, x_2": start,
        "loss": "x_1² / 2 + 5 x_2²",
        "learning rate γ": 0.05,
        "momentum μ": 0.9,
    }
    return Outcome(inputs=inputs, results=results)


def gradient_clipping() -> Outcome:
    """Shorten the gradient if it is too long.

    Formula: g ← g · min(1, c / (‖g‖ + 1e-6)), with one norm over all parameters
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks"
    Mistake: One norm for each tensor, which changes the direction of the step.
    Code: lit_modules/optim/gradient_clipping.py
    """
    gradients = numbers(3, 4), numbers(12)
    ours, theirs = ([torch.zeros_like(g).requires_grad_() for g in gradients] for _ in range(2))
    for parameters in (ours, theirs):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    norm = clip_grad_norm(ours, 6.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 6.5)
    each = [gradient * min(1.0, 6.5 / float(gradient.norm())) for gradient in gradients]
    return Outcome(
        inputs={"gradient of the weights": gradients[0], "gradient of the bias": gradients[1], "c": 6.5},
        results=[
            Result("norm before", norm, "clip_grad_norm_", expected),
            Result(
                "clipped gradients",
                torch.cat([cast(Tensor, parameter.grad) for parameter in ours]),
                "clip_grad_norm_",
                torch.cat([cast(Tensor, parameter.grad) for parameter in theirs]),
                wrong=("each alone", torch.cat(each)),
            ),
        ],
    )


def _steps(
    loss: Callable[[Tensor], Tensor], start: Tensor, make: Callable[[Tensor], torch.optim.Optimizer]
) -> Tensor:
    """Minimize a loss in four steps; return the loss and the parameters before each step, (4, 1 + P)."""
    parameters, rows = start.clone().requires_grad_(), []
    optimizer = make(parameters)
    for _ in range(4):
        value = loss(parameters)
        rows.append([value.item(), *parameters.tolist()])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return numbers(*rows)


def _momentum(kind: Callable[..., torch.optim.Optimizer], x: Tensor, **options: Any) -> torch.optim.Optimizer:
    """Build SGD with the momentum 0.9."""
    return kind([x], lr=0.05, momentum=0.9, **options)
