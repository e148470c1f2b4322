"""Oracles: the formulas from PyTorch's softmax and sigmoid; and PyTorch's loss functions against ours."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.info import ImageInfo, TextInfo
from lit_modules.configs import objective as configs
from lit_modules.objective import (
    KL,
    BinaryCrossEntropy,
    BinaryCrossEntropyFromProbabilities,
    CrossEntropy,
    CrossEntropyFromProbabilities,
    Distillation,
    Focal,
    InfoNCE,
    MeanSquaredError,
    MSEL1Cosine,
    NTXent,
)

IMAGES = ImageInfo(input_shape=(1, 2, 2), class_names=("a", "b", "c", "d"), mean=(0.0,), std=(1.0,))
ALPHA = [0.5, 1.0, 2.0, 4.0]


def smoothed(targets: Tensor, share: float) -> Tensor:
    return (1 - share) * F.one_hot(targets, 4).double() + share / 4


def cross_entropies(logits: Tensor, targets: Tensor, share: float = 0.0) -> Tensor:
    return -(smoothed(targets, share) * logits.softmax(-1).log()).sum(-1)


def divergences(logits: Tensor, targets: Tensor) -> Tensor:
    wanted = smoothed(targets, 0.2)
    return (wanted * (wanted / logits.softmax(-1)).log()).sum(-1)


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    p = logits.softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return -logits.new_tensor(ALPHA)[targets] * (1 - p) ** 1.5 * p.log()


def binary(logits: Tensor, targets: Tensor) -> Tensor:
    p, t = logits.sigmoid(), F.one_hot(targets, 4)
    return -(t * p.log() + (1 - t) * (1 - p).log()).mean(-1)


def squares(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.softmax(-1) - F.one_hot(targets, 4)).square().mean(-1)


BOTH = ("fused", "by_hand")
OF_CLASSES: dict[str, tuple[Callable[[], Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "cross_entropy_from_probabilities": (
        lambda: CrossEntropyFromProbabilities(
            configs.CrossEntropyFromProbabilitiesConfig(label_smoothing=0.2)
        ),
        lambda x, t: cross_entropies(x, t, 0.2),
    ),
}
for way in BOTH:
    made: list[tuple[str, Any, dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = [
        ("cross_entropy", CrossEntropy, {}, cross_entropies),
        ("smoothed", CrossEntropy, {"label_smoothing": 0.2}, lambda x, t: cross_entropies(x, t, 0.2)),
        ("binary_cross_entropy", BinaryCrossEntropy, {}, binary),
        ("binary_from_probabilities", BinaryCrossEntropyFromProbabilities, {}, binary),
        ("mse", MeanSquaredError, {}, squares),
        ("kl", KL, {"label_smoothing": 0.2}, divergences),
        ("focal", Focal, {"gamma": 1.5, "alpha": ALPHA}, focal),
    ]
    for name, cls, settings, oracle in made:
        schema = getattr(configs, {MeanSquaredError: "MSE"}.get(cls, cls.__name__) + "Config")
        config = schema(implementation=way, **settings)
        OF_CLASSES[f"{name} {way}"] = (lambda cls=cls, config=config: cls(config, IMAGES), oracle)


def batch(*shape: int, ignored: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(4, shape, generator=generator)
    if ignored:
        targets.view(-1)[1::3] = -100
    return logits.requires_grad_(), targets


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_an_objective_is_the_mean_of_its_formula_over_the_targets_that_count(
    name: str, shape: tuple[int, ...]
) -> None:
    build, oracle = OF_CLASSES[name]
    logits, targets = batch(*shape, ignored=True)
    loss = build()(logits, targets)
    kept = targets != -100
    expected = oracle(logits[kept], targets[kept]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    (gradient,), (wanted,) = (torch.autograd.grad(value, logits) for value in (loss, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-10)
    assert bool((gradient[~kept] == 0).all())


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(name: str, dtype: torch.dtype) -> None:
    logits, targets = (x.to(dtype) if x.is_floating_point() else x for x in batch(20))
    objective = OF_CLASSES[name][0]()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = objective(logits, targets)
    torch.testing.assert_close(loss.double(), objective(logits.double(), targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [BinaryCrossEntropy, BinaryCrossEntropyFromProbabilities])
@pytest.mark.parametrize("way", BOTH)
def test_two_classes_share_one_output(cls: Any, way: Any) -> None:
    objective = cls(getattr(configs, f"{cls.__name__}Config")(implementation=way), IMAGES)
    assert [objective.num_outputs(count) for count in (2, 3, 10)] == [1, 3, 10]
    z, targets = torch.randn(9, 1, dtype=torch.float64), torch.arange(9) % 2
    expected = F.cross_entropy(torch.cat([torch.zeros_like(z), z], 1), targets)
    torch.testing.assert_close(objective(z, targets), expected)


@pytest.mark.parametrize("way", BOTH)
def test_vectors_are_compared_entry_by_entry(way: Any) -> None:
    y, t = torch.randn(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(
        MeanSquaredError(configs.MSEConfig(implementation=way))(y, t), (y - t).pow(2).mean()
    )
    both = F.mse_loss(y, t) + F.l1_loss(y, t) - F.cosine_similarity(y, t).mean()
    torch.testing.assert_close(MSEL1Cosine(configs.MSEL1CosineConfig())(y, t), both)


def test_the_squared_error_is_the_same_to_the_bit_either_way() -> None:
    """Runs from before the objective had two implementations took ours."""
    for seed in range(20):
        torch.manual_seed(seed)
        y, t = (10 * torch.randn(64, 37 + seed)).requires_grad_(), torch.randn(64, 37 + seed)
        losses = [
            MeanSquaredError(configs.MSEConfig(implementation=way))(y, t) for way in ("fused", "by_hand")
        ]
        assert torch.equal(*losses)
        assert torch.equal(*(torch.autograd.grad(loss, y)[0] for loss in losses))


def test_one_factor_for_each_class_of_the_data() -> None:
    text = TextInfo(vocab_size=3, context_length=2)
    Focal(configs.FocalConfig(alpha=[1.0, 2.0, 3.0]), text)
    for info, count in ((text, 3), (IMAGES, 4)):
        with pytest.raises(ValueError, match=rf"alpha has 2 entries, but the data has {count} classes"):
            Focal(configs.FocalConfig(alpha=[1.0, 2.0]), info)


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_distillation_mixes_the_divergence_from_a_teacher_with_the_labels(way: Any, share: float) -> None:
    settings = configs.DistillationConfig(
        teacher="any", temperature=3.0, label_weight=share, implementation=way
    )
    objective = Distillation(settings, IMAGES)
    objective.teacher = torch.nn.Linear(5, 4).double()
    inputs = torch.randn(7, 5, dtype=torch.float64)
    logits, targets = batch(7)
    loss = objective(logits, targets, inputs=inputs)
    p, q = (objective.teacher(inputs) / 3).softmax(-1), (logits / 3).softmax(-1)
    expected = (1 - share) * 9 * (p * (p / q).log()).sum(-1) + share * cross_entropies(logits, targets)
    torch.testing.assert_close(loss, expected.mean())
    (gradient,), (wanted,) = (torch.autograd.grad(x, logits) for x in (loss, expected.mean()))
    torch.testing.assert_close(gradient, wanted)
    assert all(p.grad is None for p in objective.teacher.parameters())


def of_views(a: Tensor, b: Tensor, heat: float, *, across: bool) -> Tensor:
    """The loss written as loops: each view against the views of the other side, or against all but itself."""
    views = F.normalize(torch.cat([a, b]), dim=-1)
    losses = []
    for i in range(2 * len(a)):
        partner = (i + len(a)) % (2 * len(a))
        others = range(2 * len(a))
        others = (
            [j for j in others if (j >= len(a)) != (i >= len(a))] if across else [j for j in others if j != i]
        )
        scores = torch.stack([(views[i] @ views[j] / heat).exp() for j in others])
        losses.append(-((views[i] @ views[partner] / heat).exp() / scores.sum()).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize(("cls", "across"), [(NTXent, False), (InfoNCE, True)])
def test_the_contrastive_losses_are_cross_entropies_over_the_other_views(
    cls: Any, across: bool, way: Any
) -> None:
    a, b = (torch.randn(6, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    schema = getattr(configs, f"{cls.__name__}Config")
    objective = cls(schema(temperature=0.2, implementation=way))
    loss, expected = objective(a, b), of_views(a, b, 0.2, across=across)
    torch.testing.assert_close(loss, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(loss, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("cls", [NTXent, InfoNCE])
def test_similarities_of_half_precision_are_computed_in_fp32(cls: Any, way: Any) -> None:
    a, b = torch.randn(64, 16).bfloat16(), torch.randn(64, 16).bfloat16()
    objective = cls(getattr(configs, f"{cls.__name__}Config")(temperature=0.05, implementation=way))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(a, b)
    torch.testing.assert_close(loss.double(), objective(a.double(), b.double()), rtol=1e-5, atol=1e-6)
