import copy

import pytest
import torch
from torch import nn

from lit_modules.optim.gradient_clipping import clip_grad_norm


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 7.4, 1e3])
def test_clipping_is_pytorchs(max_norm) -> None:
    generator = torch.Generator().manual_seed(1)
    ours = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in [(3, 4), (5,), (), (0, 2)]]
    for parameter in ours:
        parameter.grad = 2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    theirs = copy.deepcopy(ours)
    for mine, other in zip(ours, theirs, strict=True):
        other.grad = mine.grad.clone()
    norm = clip_grad_norm(iter(ours), max_norm)
    expected = nn.utils.clip_grad_norm_(theirs, max_norm)
    torch.testing.assert_close(norm, expected, rtol=1e-12, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=0)


def test_clipping_never_scales_up_and_survives_zeros_and_nothing() -> None:
    weight, bare = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([0.3, 0.4])
    assert clip_grad_norm([weight, bare], 10.0).item() == pytest.approx(0.5)
    assert torch.equal(weight.grad, torch.tensor([0.3, 0.4]))
    assert bare.grad is None
    weight.grad.zero_()
    assert clip_grad_norm([weight], 1.0).item() == 0.0
    assert torch.equal(weight.grad, torch.zeros(2))
    assert clip_grad_norm([bare], 1.0).item() == 0.0
