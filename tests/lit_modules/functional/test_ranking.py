import math
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lit_modules.functional.ranking import one_vs_rest_auc, roc_auc


def draw(n: int, seed: int, levels: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, generator=generator, dtype=torch.float64)
    if levels is not None:
        scores = (scores * levels).round() / levels
    labels = torch.randint(2, (n,), generator=generator)
    labels[:2] = torch.tensor([0, 1])
    weights = torch.rand(n, generator=generator, dtype=torch.float64)
    weights[n // 2] = 0
    return scores, labels, weights


@pytest.mark.parametrize("levels", [None, 1, 4], ids=["no ties", "many ties", "some ties"])
@pytest.mark.parametrize("n", [2, 3, 17, 500])
def test_equals_scikit_learn(n: int, levels: int | None) -> None:
    for seed in range(5):
        scores, labels, weights = draw(n, seed, levels)
        assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
        weights[:2] = 0.5  # both classes have to weigh something
        expected = roc_auc_score(labels, scores, sample_weight=weights)
        assert roc_auc(scores, labels, sample_weight=weights) == pytest.approx(expected, rel=1e-12)


def test_is_the_probability_that_a_positive_ranks_above_a_negative() -> None:
    scores, labels, weights = draw(40, seed=1, levels=2)
    total = won = 0.0
    for i in range(40):
        for j in range(40):
            if labels[i] == 1 and labels[j] == 0:
                pair = float(weights[i] * weights[j])
                total += pair
                won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    assert roc_auc(scores, labels, sample_weight=weights) == pytest.approx(won / total, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_any_type_order_and_stride(dtype: torch.dtype) -> None:
    scores, labels, weights = draw(30, seed=2)
    scores = (scores * 10).to(dtype)
    expected = roc_auc_score(labels, scores.double(), sample_weight=weights)
    for given in (labels, labels.bool(), labels.float()):
        assert roc_auc(scores, given, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = roc_auc(scores[order], labels[order], sample_weight=weights[order])
    assert shuffled == pytest.approx(expected, rel=1e-12)
    spread = torch.stack([scores, -scores], dim=1)[:, 0]
    assert roc_auc(spread, labels, sample_weight=weights) == pytest.approx(expected, rel=1e-12)


def test_extremes() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert roc_auc(torch.tensor([1.0, 2.0, 3.0, 4.0]), labels) == 1
    assert roc_auc(torch.tensor([4.0, 3.0, 2.0, 1.0]), labels) == 0
    assert roc_auc(torch.zeros(4), labels) == 0.5
    assert roc_auc(torch.tensor([-math.inf, 1e4, 1e4 + 1, math.inf]), labels) == 1
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4], requires_grad=True)
    assert isinstance(roc_auc(scores, labels), float)


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "message"),
    [
        ([0.1, 0.2], [1, 1], None, "both classes; positives weigh 2 and negatives 0"),
        ([0.1, 0.2], [0, 0], None, "both classes; positives weigh 0 and negatives 2"),
        ([], [], None, "both classes; positives weigh 0 and negatives 0"),
        ([0.1, 0.2], [0, 1], [1.0, 0.0], "both classes; positives weigh 0 and negatives 1"),
        ([0.1, 0.2], [0, 2], None, r"labels must be 0 or 1; got \[0\.0, 2\.0\]"),
        ([0.1, math.nan], [0, 1], None, "NaN"),
        ([0.1, 0.2], [0, 1], [1.0, -1.0], "not negative"),
        ([0.1, 0.2], [0, 1], [1.0, math.inf], "finite"),
        ([0.1, 0.2], [0, 1], [1.0], r"\(1,\) and scores \(2,\)"),
        ([0.1, 0.2], [0], None, r"\(2,\) and \(1,\)"),
        ([[0.1, 0.2]], [[0, 1]], None, r"\(1, 2\) and \(1, 2\)"),
    ],
)
def test_refuses_inputs_without_an_area(scores: Any, labels: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc_auc(
            torch.tensor(scores),
            torch.tensor(labels),
            sample_weight=None if weights is None else torch.tensor(weights),
        )


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_one_vs_rest_equals_scikit_learn(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    scores = (3 * torch.randn(80, classes, generator=generator, dtype=torch.float64)).round().softmax(1)
    targets = torch.randint(classes, (80,), generator=generator)
    theirs = roc_auc_score(targets, scores[:, 1] if classes == 2 else scores, multi_class="ovr")
    assert one_vs_rest_auc(scores, targets) == pytest.approx(theirs, rel=1e-12)


def test_one_vs_rest_ignores_classes_without_an_area() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1]])
    targets = torch.tensor([0, 1, 1, 0])
    expected = [roc_auc(scores[:, c], targets == c) for c in (0, 1)]
    assert one_vs_rest_auc(scores, targets) == pytest.approx(sum(expected) / 2)
    assert math.isnan(one_vs_rest_auc(scores, torch.ones(4, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"got \(4, 3\) and \(3,\)"):
        one_vs_rest_auc(scores, targets[:3])
