import copy

import pytest
import torch
from torch import nn

from lit_modules.optim.adamw import AdamW


def train(optimizer_class, parameters: list[nn.Parameter], steps: int, **options) -> None:
    """Descend a rough loss, so that every step has another gradient."""
    optimizer = optimizer_class(parameters, **options)
    for step in range(steps):
        optimizer.zero_grad()
        loss = sum(((parameter - step * 0.1) ** 4).sum() + parameter.sin().sum() for parameter in parameters)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("fused", [False, True])
def test_takes_pytorchs_steps(weight_decay, fused) -> None:
    torch.manual_seed(0)
    ours = [
        nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(3, 5), (7,), (), (2, 3, 1, 2)]
    ]
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": weight_decay}
    for _ in range(3):
        train(AdamW, ours, 10, **options)
        train(torch.optim.AdamW, theirs, 10, fused=fused, **options)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_no_worse_than_pytorch(dtype) -> None:
    torch.manual_seed(1)
    start = torch.randn(64, 33).to(dtype)
    exact, ours, theirs = (nn.Parameter(start.clone().to(kind)) for kind in (torch.float64, dtype, dtype))
    options = {"lr": 0.01, "weight_decay": 0.1}
    train(torch.optim.AdamW, [exact], 5, **options)
    train(AdamW, [ours], 5, **options)
    train(torch.optim.AdamW, [theirs], 5, foreach=False, **options)
    our_error = (ours.double() - exact).norm()
    their_error = (theirs.double() - exact).norm()
    assert our_error <= 1.5 * their_error


def test_state_moves_by_groups_and_skips_what_has_no_gradient() -> None:
    moved, still, slow = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = AdamW([{"params": [moved, still]}, {"params": [slow], "lr": 0.0}], lr=0.1, weight_decay=0.0)
    (moved.sum() + slow.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(moved.detach(), torch.full((2,), 0.9))  # a first step is as long as the rate
    assert torch.equal(still, torch.ones(2))
    assert torch.equal(slow, torch.ones(2))
    assert still not in optimizer.state


def test_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW([weight], lr=0.1)

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert weight.item() < 2.0
