from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from lit_modules.functional.cross_entropy import binary_cross_entropy_with_logits, cross_entropy
from lit_modules.functional.focal import focal_loss, sigmoid_focal_loss

Check = Callable[..., None]
Reduction = Literal["none", "sum", "mean"]


def normal(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).double()


def plain_focal_loss(logits: Tensor, targets: Tensor, gamma: float, alpha: Tensor | None = None) -> Tensor:
    """Compute equation 5 directly from PyTorch's softmax."""
    p = logits.softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    losses = -((1 - p) ** gamma) * p.log()
    return losses if alpha is None else alpha[targets] * losses


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_equals_torchvision(
    alpha: float | None, gamma: float, reduction: Reduction, assert_equal_in_fp64: Check
) -> None:
    for targets in (bits(4, 5), normal(4, 5, seed=1).sigmoid()):
        assert_equal_in_fp64(
            lambda x, t: (
                sigmoid_focal_loss(x, t.detach(), gamma=gamma, alpha=alpha, reduction=reduction) + 0 * t.sum()
            ),
            lambda x, t: (
                torchvision_focal_loss(
                    x, t.detach(), alpha=-1 if alpha is None else alpha, gamma=gamma, reduction=reduction
                )
                + 0 * t.sum()
            ),
            normal(4, 5),
            targets,
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_multi_class_equals_its_formula(
    shape: tuple[int, ...], gamma: float, assert_equal_in_fp64: Check
) -> None:
    targets = torch.randint(4, shape, generator=torch.Generator().manual_seed(0))
    alpha = torch.tensor([0.1, 0.5, 2.0, 1.0], dtype=torch.float64)
    for a in (None, alpha):
        assert_equal_in_fp64(
            lambda x, a=a: focal_loss(x, targets, gamma=gamma, alpha=a, reduction="none"),
            lambda x, a=a: plain_focal_loss(x, targets, gamma, a),
            normal(*shape, 4),
        )


def test_two_classes_are_a_sigmoid_of_their_difference(assert_equal_in_fp64: Check) -> None:
    targets = bits(6)
    assert_equal_in_fp64(
        lambda x: focal_loss(torch.stack([-x / 2, x / 2], -1), targets.long()),
        lambda x: torchvision_focal_loss(x, targets, alpha=-1, gamma=2.0, reduction="mean"),
        normal(6),
    )


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_equals_cross_entropy_at_gamma_zero(reduction: Reduction) -> None:
    x, targets = normal(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    ours = focal_loss(x, targets, gamma=0, reduction=reduction)
    torch.testing.assert_close(ours, F.cross_entropy(x, targets, reduction=reduction), rtol=1e-12, atol=0)
    assert torch.equal(ours, cross_entropy(x, targets, reduction=reduction))
    labels = bits(6, 4)
    ours = sigmoid_focal_loss(x, labels, gamma=0, reduction=reduction)
    assert torch.equal(ours, binary_cross_entropy_with_logits(x, labels, reduction=reduction))


def test_alpha_at_gamma_zero_weighs_classes_but_not_the_mean() -> None:
    x, targets = normal(6, 3), torch.tensor([0, 1, 2, 2, 0, 1])
    alpha = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    total = F.cross_entropy(x, targets, weight=alpha, reduction="sum")
    torch.testing.assert_close(focal_loss(x, targets, gamma=0, alpha=alpha), total / 6, rtol=1e-12, atol=0)
    half = focal_loss(x, targets, alpha=0.5)
    torch.testing.assert_close(half, focal_loss(x, targets) / 2, rtol=1e-12, atol=0)


def test_sigmoid_alpha_for_each_class(assert_equal_in_fp64: Check) -> None:
    targets = bits(5, 3)
    alpha = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

    def one_class_at_a_time(x: Tensor) -> Tensor:
        columns = [
            torchvision_focal_loss(x[:, c], targets[:, c], alpha=float(alpha[c]), gamma=2.0) for c in range(3)
        ]
        return torch.stack(columns, dim=-1)

    assert_equal_in_fp64(
        lambda x: sigmoid_focal_loss(x, targets, alpha=alpha, reduction="none"),
        one_class_at_a_time,
        normal(5, 3),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", [1.0, 2.0])  # at 0.5, torchvision's gradients in bf16 hold NaN
def test_is_as_accurate_as_its_oracles(gamma: float, dtype: torch.dtype, assert_as_accurate: Check) -> None:
    labels = bits(16, 9)
    assert_as_accurate(
        lambda x: sigmoid_focal_loss(x, labels, gamma=gamma, alpha=0.25, reduction="none"),
        lambda x: torchvision_focal_loss(x, labels.to(x.dtype), gamma=gamma, alpha=0.25),
        lambda seed: [normal(16, 9, seed=seed)],
        dtype,
    )
    targets = torch.arange(16) % 9
    assert_as_accurate(
        lambda x: focal_loss(x, targets, gamma=gamma, reduction="none"),
        lambda x: plain_focal_loss(x, targets, gamma),
        lambda seed: [normal(16, 9, seed=seed)],
        dtype,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_finite_at_any_logit(dtype: torch.dtype, gamma: float) -> None:
    x = torch.tensor([1e4, -1e4, 50.0, -50.0, 1e-4, 0.0], dtype=dtype, requires_grad=True)
    for t in (0.0, 1.0):
        losses = sigmoid_focal_loss(x, torch.full_like(x, t), gamma=gamma, reduction="none")
        (slope,) = torch.autograd.grad(losses.sum(), x)
        assert bool(losses.isfinite().all())
        assert bool(slope.isfinite().all())
    logits = torch.stack([x, -x], dim=-1)
    losses = focal_loss(logits, torch.zeros(6, dtype=torch.long), gamma=gamma, reduction="none")
    (slope,) = torch.autograd.grad(losses.sum(), x)
    assert bool(losses.isfinite().all())
    assert bool(slope.isfinite().all())
    assert losses[0].item() == 0
    assert losses[1].item() == pytest.approx(2e4, rel=4e-3)


def test_is_right_where_the_truth_is_nearly_certain() -> None:
    """In fp32, p_t rounds to 1 for logits of 17 and more, so 1 − p_t would be 0."""
    x = torch.tensor([[20.0, 0.0]])
    expected = plain_focal_loss(x.double(), torch.tensor([0]), gamma=1.0)
    assert focal_loss(x, torch.tensor([0]), gamma=1.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients() -> None:
    x = normal(4, 3).requires_grad_()
    targets, labels = torch.tensor([0, 2, 1, 1]), bits(4, 3)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets), x)
    assert torch.autograd.gradgradcheck(lambda x: focal_loss(x, targets), x)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, labels), x)


def test_integer_labels_odd_strides_and_empty_batches() -> None:
    x, labels = normal(3, 5), bits(3, 5)
    assert torch.equal(sigmoid_focal_loss(x, labels.long()), sigmoid_focal_loss(x, labels))
    torch.testing.assert_close(sigmoid_focal_loss(x.T, labels.T), sigmoid_focal_loss(x, labels))
    targets = torch.tensor([1, 0, 2, 2, 1])
    torch.testing.assert_close(focal_loss(x.T, targets), focal_loss(x.T.contiguous(), targets))
    assert sigmoid_focal_loss(torch.empty(0), torch.empty(0)).item() == 0
    assert focal_loss(torch.empty(0, 3), torch.empty(0, dtype=torch.long)).item() == 0


def test_refuses_mismatched_arguments() -> None:
    x, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="each of the 3 classes; got shape"):
        focal_loss(x, targets, alpha=torch.tensor([0.25]))
    with pytest.raises(ValueError, match="each of the 3 classes; got shape"):
        sigmoid_focal_loss(x, x, alpha=torch.ones(2))
    with pytest.raises(ValueError, match=r"must not be negative; got -1"):
        focal_loss(x, targets, gamma=-1)
    with pytest.raises(ValueError, match=r"\(2,\); got \(2, 3\)"):
        focal_loss(x, x.long())
    with pytest.raises(ValueError, match=r"\(2, 3\) and targets \(2,\)"):
        sigmoid_focal_loss(x, targets)
    with pytest.raises(ValueError, match=r"\[0, 3\); got values from 0 to 3"):
        focal_loss(x, torch.tensor([0, 3]))
