"""SGD by hand takes PyTorch's steps."""

from typing import Any

import pytest
import torch

from lit_modules.optim.sgd import SGD


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    ids=["plain", "momentum", "nesterov"],
)
def test_steps_are_those_of_pytorch(options: dict[str, Any], decay: float) -> None:
    torch.manual_seed(0)
    start, target = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizers = (
        SGD([ours], lr=0.05, weight_decay=decay, **options),
        torch.optim.SGD([theirs], lr=0.05, weight_decay=decay, **options),
    )
    for step in range(20):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 / (1 + step)  # the velocity must not contain the learning rate
            optimizer.zero_grad()
            (parameter - target).pow(4).sum().backward()
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_closure_is_called_and_parameters_without_gradient_stay() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)

    def closure() -> float:
        loss = used.sum()
        loss.backward()
        return loss.item()

    assert SGD([used, unused], lr=0.5).step(closure) == 2
    assert used.tolist() == [0.5, 0.5]
    assert unused.tolist() == [1, 1]


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        SGD([torch.ones(1)], nesterov=True)
