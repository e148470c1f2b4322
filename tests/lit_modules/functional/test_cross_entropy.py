import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional import blocks
from lit_modules.functional.cross_entropy import (
    binary_cross_entropy_from_probabilities,
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_from_probabilities,
)

Check = Callable[..., None]
Implementation = Literal["by_hand", "fused"]
Reduction = Literal["none", "sum", "mean"]
REDUCTIONS: tuple[Reduction, ...] = ("none", "sum", "mean")


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def indices(*shape: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def oracle(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """Call `F.cross_entropy`, which expects the classes in the second dimension."""
    if targets.is_floating_point():
        targets = targets.movedim(-1, min(1, targets.dim() - 1))
    return F.cross_entropy(logits.movedim(-1, min(1, logits.dim() - 1)), targets, **options)


@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["index", "ignored index", "one-hot", "soft"])
def test_equals_pytorch(
    kind: str,
    weighted: bool,
    label_smoothing: float,
    reduction: Reduction,
    implementation: Implementation,
    assert_equal_in_fp64: Check,
) -> None:
    targets: Tensor = indices(6, classes=5)
    ignore_index = -100
    if kind == "ignored index":
        ignore_index = int(targets[0])  # a class can be the ignored one
    elif kind == "one-hot":
        targets = F.one_hot(targets, 5).double()
    elif kind == "soft":
        targets = normal(6, 5, seed=1).softmax(-1)
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": label_smoothing}
    if weighted:
        options["weight"] = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    if not targets.is_floating_point():
        options["ignore_index"] = ignore_index
    assert_equal_in_fp64(
        lambda x, t: cross_entropy(x, t, implementation=implementation, **options),
        lambda x, t: oracle(x, t, **options),
        normal(6, 5),
        targets,
    )


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3), (0,)])
@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
def test_takes_any_leading_dims(
    shape: tuple[int, ...], classes: int, implementation: Implementation, assert_equal_in_fp64: Check
) -> None:
    targets = indices(*shape, classes=classes)
    for t in (targets, F.one_hot(targets, classes).double()):
        assert_equal_in_fp64(
            lambda x, t: cross_entropy(x, t, reduction="none", implementation=implementation),
            lambda x, t: oracle(x, t, reduction="none"),
            normal(*shape, classes),
            t,
        )


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]]),
        torch.tensor([[1e-4, -1e-4, 0.0], [1e-4, 1e-4, 1e-4], [0.0, 0.0, 0.0]]),
        torch.tensor([[0.0, -torch.inf, 1.0], [-torch.inf, 1e4, -torch.inf], [1.0, 2.0, 3.0]]),
    ],
    ids=["large", "small and tied", "partly masked"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_logits(x: Tensor, dtype: torch.dtype, assert_equal_in_fp64: Check) -> None:
    targets = torch.tensor([2, 1, 0])
    assert_equal_in_fp64(
        lambda x: cross_entropy(x, targets, reduction="none"),
        lambda x: F.cross_entropy(x, targets, reduction="none"),
        x,
    )
    expected = F.cross_entropy(x.double(), targets, reduction="none")
    losses = cross_entropy(x.to(dtype), targets, reduction="none").double()
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("reduction", "scale"), [("none", 1e-4), ("none", 1.0), ("none", 1e4), ("sum", 3.0), ("mean", 3.0)]
)
def test_is_as_accurate_as_pytorch(
    reduction: Reduction, scale: float, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    assert_as_accurate(
        lambda x, t: cross_entropy(x, t, reduction=reduction),
        lambda x, t: F.cross_entropy(x, t, reduction=reduction),
        lambda seed: [normal(32, 17, seed=seed, scale=scale), indices(32, classes=17, seed=seed)],
        dtype,
        draws=16,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_weighted_and_smoothed_is_as_accurate_as_pytorch(
    dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    def draw(seed: int) -> list[Tensor]:
        return [
            normal(32, 17, seed=seed),
            normal(32, 17, seed=seed + 50).softmax(-1),
            normal(17, seed=seed + 90, scale=0.5).exp(),
        ]

    for smoothing in (0.0, 0.1):
        assert_as_accurate(
            lambda x, t, w, s=smoothing: (
                cross_entropy(x, t, weight=w.detach(), label_smoothing=s) + 0 * w.sum()
            ),
            lambda x, t, w, s=smoothing: (
                F.cross_entropy(x, t, weight=w.detach(), label_smoothing=s) + 0 * w.sum()
            ),
            draw,
            dtype,
            draws=16,
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_is_the_same_in_blocks(
    reduction: Reduction, monkeypatch: pytest.MonkeyPatch, assert_equal_in_fp64: Check
) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 8)
    targets = indices(29, classes=5)
    targets[::3] = -100
    assert_equal_in_fp64(
        lambda x: cross_entropy(x, targets, reduction=reduction),
        lambda x: F.cross_entropy(x, targets, reduction=reduction),
        normal(29, 5),
    )


def test_takes_logits_that_are_not_contiguous(assert_equal_in_fp64: Check) -> None:
    targets = indices(2, 6, classes=5)
    assert_equal_in_fp64(
        lambda x: cross_entropy(x.mT, targets), lambda x: F.cross_entropy(x, targets), normal(2, 5, 6)
    )


@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(3,), (0,)])
def test_mean_over_nothing_is_zero_with_zero_gradients(
    shape: tuple[int, ...], label_smoothing: float, implementation: Implementation
) -> None:
    logits = normal(*shape, 4).requires_grad_()
    targets = torch.full(shape, -100)
    loss = cross_entropy(logits, targets, label_smoothing=label_smoothing, implementation=implementation)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_fully_masked_row_costs_inf_unless_ignored(label_smoothing: float) -> None:
    logits = torch.tensor([[-torch.inf] * 3, [1.0, 2.0, 3.0]], requires_grad=True)
    losses = cross_entropy(logits, torch.tensor([1, 1]), reduction="none", label_smoothing=label_smoothing)
    assert losses[0].item() == torch.inf
    assert bool(losses[1].isfinite())
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient[0].tolist() == [0, 0, 0]
    assert bool(gradient[1].isfinite().all())
    assert bool((gradient[1] != 0).all())

    ignored = cross_entropy(logits, torch.tensor([-100, 1]), label_smoothing=label_smoothing)
    torch.testing.assert_close(ignored, losses[1])
    (gradient,) = torch.autograd.grad(ignored, logits)
    assert gradient[0].tolist() == [0, 0, 0]
    assert bool(gradient.isfinite().all())


def test_a_class_without_probability_or_weight_may_be_masked() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    soft = torch.tensor([[0.25, 0.75, 0.0]])
    loss = cross_entropy(logits, soft)
    torch.testing.assert_close(loss, cross_entropy(logits[:, :2], soft[:, :2]))
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = torch.tensor([0.0, 1.0]).softmax(-1) - soft[0, :2]
    torch.testing.assert_close(gradient, torch.cat([expected, torch.zeros(1)])[None])

    weight = torch.tensor([1.0, 1.0, 0.0])
    assert cross_entropy(logits, torch.tensor([2]), weight=weight, reduction="sum").item() == 0
    both = cross_entropy(logits.expand(2, 3), torch.tensor([2, 0]), weight=weight)
    torch.testing.assert_close(both, cross_entropy(logits, torch.tensor([0])))


@pytest.mark.parametrize("kind", ["index", "soft", "smoothed", "probabilities", "binary"])
def test_gradients_of_gradients(kind: str) -> None:
    x, targets, soft = normal(3, 4), torch.tensor([3, -100, 0]), normal(3, 4, seed=1).softmax(-1)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "index": lambda x: cross_entropy(x, targets),
        "soft": lambda x: cross_entropy(x, soft),
        "smoothed": lambda x: cross_entropy(x, targets, label_smoothing=0.2),
        "probabilities": lambda x: cross_entropy_from_probabilities(x.softmax(-1), soft),
        "binary": lambda x: binary_cross_entropy_from_probabilities(x.sigmoid(), soft),
    }
    x.requires_grad_()
    assert torch.autograd.gradcheck(functions[kind], x)
    assert torch.autograd.gradgradcheck(functions[kind], x)


def test_gradients_reach_soft_targets(assert_equal_in_fp64: Check) -> None:
    soft = normal(4, 3, seed=1).softmax(-1)
    assert_equal_in_fp64(cross_entropy, F.cross_entropy, normal(4, 3), soft)


def test_works_under_vmap() -> None:
    logits, targets = normal(5, 4), torch.tensor([0, 3, -100, 2, 1])
    per_sample = torch.func.vmap(torch.func.grad(cross_entropy))(logits, targets)
    one_by_one = torch.stack(
        [torch.func.grad(cross_entropy)(x, t) for x, t in zip(logits, targets, strict=True)]
    )
    torch.testing.assert_close(per_sample, one_by_one, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"reduction": "none"}])
def test_compiles_to_one_graph(options: dict[str, Any]) -> None:
    logits, targets = normal(5, 4).requires_grad_(), torch.tensor([0, 3, -100, 2, 1])
    compiled = torch.compile(cross_entropy, backend="aot_eager", fullgraph=True)
    results = []
    for function in (compiled, cross_entropy):
        loss = function(logits, targets, **options)
        results.append([loss.detach(), *torch.autograd.grad(loss.sum(), logits)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-14)


def test_result_type_is_pytorchs() -> None:
    logits, targets = normal(5, 4), indices(5, classes=4)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert cross_entropy(logits.to(dtype), targets).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(logits.bfloat16(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.bfloat16().float(), targets))


@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
@pytest.mark.parametrize("bad", [4, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_refuses_unknown_classes(bad: int, implementation: Implementation, weighted: bool) -> None:
    targets = torch.tensor([0, bad])
    weight = torch.ones(4) if weighted else None
    low, high = min(0, bad), max(0, bad)
    with pytest.raises(ValueError, match=rf"\[0, 4\); got values from {low} to {high}"):
        cross_entropy(torch.zeros(2, 4), targets, implementation=implementation, weight=weight)


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (torch.zeros(3, dtype=torch.long), {}, r"shape \(2,\).*shape \(3,\)"),
        (torch.zeros(2, 4, dtype=torch.long), {}, r"shape \(2,\).*shape \(2, 4\)"),
        (torch.zeros(2, dtype=torch.bool), {}, r"integers.*bool"),
        (torch.zeros(2), {}, r"\(2, 4\); got \(2,\)"),
        (torch.zeros(2, dtype=torch.long), {"weight": torch.ones(3)}, r"\(4,\).*\(3,\)"),
        (torch.zeros(2, dtype=torch.long), {"label_smoothing": 1.5}, r"\[0, 1\]; got 1.5"),
        (torch.zeros(2, dtype=torch.long), {"reduction": "batchmean"}, "batchmean"),
        (torch.zeros(2, dtype=torch.long), {"implementation": "magic"}, "by_hand or fused.*magic"),
    ],
)
def test_refuses_mismatched_arguments(targets: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cross_entropy(torch.zeros(2, 4), targets, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["index", "soft"])
def test_from_probabilities_equals_nll_of_their_logarithm(
    kind: str, reduction: Reduction, assert_equal_in_fp64: Check
) -> None:
    p, targets = normal(2, 3, 5).softmax(-1), indices(2, 3, classes=5)
    soft = normal(2, 3, 5, seed=1).softmax(-1)

    def theirs(p: Tensor) -> Tensor:
        if kind == "index":
            return F.nll_loss(p.log().movedim(-1, 1), targets, reduction=reduction)
        losses = -(soft * p.log()).sum(-1)
        return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]

    target = targets if kind == "index" else soft
    assert_equal_in_fp64(
        lambda p: cross_entropy_from_probabilities(p, target, reduction=reduction), theirs, p
    )


def test_from_probabilities_clips_as_documented() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    losses = cross_entropy_from_probabilities(p, torch.tensor([0, 1]), reduction="none")
    assert losses.tolist() == [0, 100]
    losses.sum().backward()
    assert p.grad is not None
    assert p.grad.tolist() == [[-1, 0], [0, -1e12]]
    assert cross_entropy_from_probabilities(torch.empty(0, 2), torch.empty(0, dtype=torch.long)).item() == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_equals_pytorch(reduction: Reduction, assert_equal_in_fp64: Check) -> None:
    x, t = normal(4, 5), normal(4, 5, seed=1).sigmoid()
    assert_equal_in_fp64(
        lambda x, t: binary_cross_entropy_with_logits(x, t, reduction=reduction),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction),
        x,
        t,
    )
    assert_equal_in_fp64(
        lambda p: binary_cross_entropy_from_probabilities(p, t, reduction=reduction),
        lambda p: F.binary_cross_entropy(p, t, reduction=reduction),
        x.sigmoid(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_is_as_accurate_as_pytorch(
    reduction: Reduction, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    assert_as_accurate(
        lambda x, t: binary_cross_entropy_with_logits(x, t, reduction=reduction),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction),
        lambda seed: [normal(16, 9, seed=seed), normal(16, 9, seed=seed + 50).sigmoid()],
        dtype,
        draws=16,
    )


@pytest.mark.parametrize("kind", ["index", "binary"])
def test_from_probabilities_is_as_accurate_as_pytorch_in_fp32(kind: str, assert_as_accurate: Check) -> None:
    if kind == "binary":
        assert_as_accurate(
            lambda p, t: binary_cross_entropy_from_probabilities(p, t.detach(), reduction="none") + 0 * t,
            lambda p, t: F.binary_cross_entropy(p, t.detach(), reduction="none") + 0 * t,
            lambda seed: [normal(16, 9, seed=seed).sigmoid(), normal(16, 9, seed=seed + 50).sigmoid()],
            torch.float32,
        )
    else:
        assert_as_accurate(
            lambda p, t: cross_entropy_from_probabilities(p, t, reduction="none"),
            lambda p, t: F.nll_loss(p.log(), t, reduction="none"),
            lambda seed: [normal(16, 9, seed=seed).softmax(-1), indices(16, classes=9, seed=seed)],
            torch.float32,
        )


def test_binary_from_probabilities_clips_as_documented() -> None:
    p = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    losses = binary_cross_entropy_from_probabilities(p, t, reduction="none")
    assert torch.equal(losses, F.binary_cross_entropy(p, t, reduction="none"))
    assert losses.tolist() == [100, 0, 0, 100]
    losses.sum().backward()
    assert p.grad is not None
    assert p.grad.tolist() == [-1e12, 1, -1, 1e12]


def test_binary_takes_integers_booleans_and_empty_batches() -> None:
    x = torch.tensor([0.3, -2.0])
    expected = F.binary_cross_entropy_with_logits(x, torch.tensor([0.0, 1.0]))
    for targets in (torch.tensor([0, 1]), torch.tensor([False, True])):
        torch.testing.assert_close(binary_cross_entropy_with_logits(x, targets), expected)
        torch.testing.assert_close(binary_cross_entropy_from_probabilities(x.sigmoid(), targets), expected)
    assert binary_cross_entropy_with_logits(torch.empty(0), torch.empty(0)).item() == 0


def test_from_probabilities_and_binary_refuse_mismatched_arguments() -> None:
    with pytest.raises(ValueError, match="probabilities must"):
        cross_entropy_from_probabilities(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="sum to 1"):
        cross_entropy_from_probabilities(torch.tensor([[0.2, 0.2]]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"\[0, 2\); got values from 2 to 2"):
        cross_entropy_from_probabilities(torch.tensor([[0.5, 0.5]]), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"\(3, 1\) and targets \(3,\)"):
        binary_cross_entropy_with_logits(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(3, 1\) and targets \(3,\)"):
        binary_cross_entropy_from_probabilities(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"from 0 to 1\.5"):
        binary_cross_entropy_from_probabilities(torch.tensor([0.0, 1.5]), torch.zeros(2))


def test_of_a_uniform_prediction_is_the_logarithm_of_the_number_of_classes() -> None:
    for classes in (1, 2, 1000):
        loss = cross_entropy(torch.zeros(3, classes), torch.zeros(3, dtype=torch.long))
        assert loss.item() == pytest.approx(math.log(classes), rel=1e-6)
