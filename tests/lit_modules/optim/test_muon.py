import copy

import pytest
import torch
from torch import Tensor, nn

from lit_modules.optim.muon import Muon, orthogonalize


def orthogonalize_by_svd(matrix: Tensor, steps: int) -> Tensor:
    """The same map applied to the singular values themselves, in closed form."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / torch.linalg.vector_norm(s)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ vh


@pytest.mark.parametrize("shape", [(5, 5), (3, 11), (11, 3), (1, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize("steps", [1, 5])
def test_orthogonalize_acts_on_singular_values_alone(shape, steps) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = orthogonalize_by_svd(matrix, steps)
    torch.testing.assert_close(orthogonalize(matrix, steps=steps), expected, rtol=1e-10, atol=1e-12)


def test_orthogonalize_takes_a_stack_and_any_strides() -> None:
    stack = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).mT
    expected = torch.stack([orthogonalize_by_svd(matrix, 5) for matrix in stack])
    torch.testing.assert_close(orthogonalize(stack), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_orthogonalize_brings_singular_values_near_one_at_any_scale(scale) -> None:
    matrix = scale * torch.randn(16, 24, generator=torch.Generator().manual_seed(5))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_orthogonalize_leaves_zeros_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_orthogonalize_in_bf16_rounds_no_worse_than_pytorch() -> None:
    gradient = torch.randn(48, 80, generator=torch.Generator().manual_seed(6))
    exact = orthogonalize_by_svd(gradient.double(), 5)
    weight = nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    torch.optim.Muon([weight], lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0).step()
    their_error = (-weight.detach().double() - exact).norm()
    our_error = (orthogonalize(gradient, dtype=torch.bfloat16).double() - exact).norm()
    assert our_error <= 1.5 * their_error


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 3, 3), (8, 2, 5)])
def test_steps_follow_the_formula(shape) -> None:
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(shape, dtype=torch.float64, generator=generator)
    weight = nn.Parameter(start.clone())
    optimizer = Muon([{"params": [weight]}], lr=0.05, momentum=0.9, weight_decay=0.2)
    expected, buffer = start.clone(), torch.zeros_like(start)
    for _ in range(4):
        gradient = torch.randn(shape, dtype=torch.float64, generator=generator)
        weight.grad = gradient.clone()
        optimizer.step()
        buffer = 0.9 * buffer + 0.1 * gradient
        direction = orthogonalize_by_svd((0.9 * buffer + 0.1 * gradient).flatten(1), 5).view(shape)
        rows, columns = start.flatten(1).shape
        expected = (1 - 0.05 * 0.2) * expected - 0.05 * max(1, rows / columns) ** 0.5 * direction
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-10, atol=1e-12)


def test_steps_agree_with_pytorchs_muon_as_far_as_its_bf16_goes() -> None:
    generator = torch.Generator().manual_seed(8)
    ours = [nn.Parameter(torch.zeros(shape)) for shape in [(12, 8), (8, 12), (12, 8)]]
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    our_optimizer = Muon([{"params": ours}], **options)
    their_optimizer = torch.optim.Muon(theirs, **options)
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        our_optimizer.step()
        their_optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() < 0.03 * other.norm()


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_groups_take_adamws_steps(fused) -> None:
    generator = torch.Generator().manual_seed(9)
    ours = [
        nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator)) for shape in [(4, 3), (5,)]
    ]
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.03, "betas": (0.8, 0.9), "eps": 1e-7, "weight_decay": 0.1}
    our_optimizer = Muon([{"params": ours, "rule": "adamw"}], fused=fused, **options)
    their_optimizer = torch.optim.AdamW(theirs, **options)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, dtype=torch.float64, generator=generator)
            other.grad = mine.grad.clone()
        our_optimizer.step()
        their_optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)


def test_memory_format_of_filters_changes_nothing() -> None:
    gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(10))
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(torch.ones(4, 3, 2, 2).to(memory_format=memory_format))
        weight.grad = gradient.to(memory_format=memory_format)
        Muon([{"params": [weight]}]).step()
        results.append(weight.detach())
    torch.testing.assert_close(results[0], results[1])


def test_what_has_no_gradient_stays_and_the_closure_is_called() -> None:
    weight, still, bias = nn.Parameter(torch.eye(2)), nn.Parameter(torch.eye(2)), nn.Parameter(torch.ones(2))
    optimizer = Muon([{"params": [weight, still]}, {"params": [bias], "rule": "adamw"}], weight_decay=0.1)

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert not torch.equal(weight, torch.eye(2))
    assert torch.equal(still, torch.eye(2))
    assert torch.equal(bias, torch.ones(2))


def test_refuses_vectors_and_unknown_rules() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), expected two dimensions"):
        Muon([{"params": [nn.Parameter(torch.ones(3))]}])
    with pytest.raises(ValueError, match="rule 'adam'"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "rule": "adam"}])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no two CUDA devices")
def test_a_weight_on_another_gpu_than_the_current_one_is_updated_by_its_gradients() -> None:
    """A CUDA graph is recorded on the current GPU; it would miss the work on another one."""
    weight = torch.zeros(4, 4, device="cuda:1", requires_grad=True)
    optimizer = Muon([{"params": [weight], "rule": "muon"}], lr=1.0, momentum=0.0)
    for sign in (1.0, -1.0):
        weight.grad = sign * torch.eye(4, device="cuda:1")
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.zeros_like(weight))
