import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import MulticlassAUROC

from lit_modules.metrics.ranking_metrics import OneVsRestAUC


def draw(count: int, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    return logits, torch.randint(classes, (count,), generator=generator)


def test_is_that_of_all_samples_whatever_the_batches():
    logits, targets = draw(101)
    metric = OneVsRestAUC()
    for _ in range(2):
        for part in torch.arange(101).split(17):
            metric.update(logits[part], targets[part])
        expected = roc_auc_score(targets, logits.double().softmax(1), multi_class="ovr")
        assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
        theirs = MulticlassAUROC(3)(logits, targets)
        assert metric.compute().item() == pytest.approx(theirs.item(), rel=1e-5)
        metric.reset()


def test_is_of_probabilities_since_samples_are_compared():
    """Adding a number to all logits of a sample changes none of its probabilities."""
    logits, targets = draw(40)
    plain, shifted = OneVsRestAUC(), OneVsRestAUC()
    plain.update(logits, targets)
    shifted.update(logits + 10 * torch.randn(40, 1), targets)
    assert shifted.compute().item() == pytest.approx(plain.compute().item(), abs=1e-3)


def test_what_is_not_defined_is_no_number():
    metric = OneVsRestAUC()
    metric.update(torch.randn(4, 3), torch.ones(4, dtype=torch.long))
    assert math.isnan(metric.compute())
    metric.reset()
    logits, targets = draw(20)
    for broken in (torch.nan, torch.inf):
        logits[3, 1] = broken
        metric.reset()
        metric.update(logits, targets)
        assert math.isnan(metric.compute())


def test_states_go_through_a_checkpoint():
    first, second = OneVsRestAUC(), OneVsRestAUC()
    logits, targets = draw(30)
    first.update(logits[:20], targets[:20])
    for metric in (first, second):
        metric.persistent(True)
    second.load_state_dict(first.state_dict())
    first.update(logits[20:], targets[20:])
    second.update(logits[20:], targets[20:])
    assert first.compute() == second.compute()
