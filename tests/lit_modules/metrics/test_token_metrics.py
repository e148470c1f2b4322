import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics import MeanMetric
from torchmetrics.text import Perplexity as TorchmetricsPerplexity

from lit_modules.metrics.token_metrics import (
    IGNORED,
    BitsPerByte,
    Perplexity,
    SequenceAccuracy,
    TokenAccuracy,
)


@pytest.mark.parametrize("cuts", [[12], [1, 11], [5, 4, 3], [1] * 12])
def test_every_token_counts_alike_however_the_batches_are_cut(cuts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 7, generator=generator)
    targets = torch.randint(7, (12,), generator=generator)
    losses = F.cross_entropy(logits, targets, reduction="none")
    oracle = TorchmetricsPerplexity()
    metrics = [Perplexity(), BitsPerByte(bytes_per_token=3.5)]
    for part in range(len(cuts)):
        where = slice(sum(cuts[:part]), sum(cuts[: part + 1]))
        oracle.update(logits[where].unsqueeze(0), targets[where].unsqueeze(0))
        for metric in metrics:
            metric.update(losses[where].unsqueeze(0))
    perplexity, bits = (metric.compute().item() for metric in metrics)
    assert perplexity == pytest.approx(oracle.compute().item(), rel=1e-5)
    # 12 tokens of 3.5 bytes, written down with −log₂ p bits each.
    probabilities = logits.double().softmax(-1)[torch.arange(12), targets]
    assert bits == pytest.approx(-probabilities.log2().sum().item() / 42, rel=1e-5)


def test_a_byte_model_that_knows_nothing_needs_eight_bits() -> None:
    metric = BitsPerByte(bytes_per_token=1)
    metric.update(torch.full((100,), math.log(256)))
    assert metric.compute().item() == pytest.approx(8)


@pytest.mark.parametrize("metric", [Perplexity(), BitsPerByte(2.0)])
def test_a_loss_that_is_no_number_is_reported_as_such(metric: MeanMetric) -> None:
    metric.update(torch.tensor([1.0, math.nan]))
    assert math.isnan(metric.compute().item())
    metric.reset()
    metric.update(torch.tensor([1.0]))
    assert math.isfinite(metric.compute().item())


def test_accuracies_count_the_targets_that_are_not_ignored_over_all_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, 3, generator=generator)
    targets = logits.argmax(-1)
    targets[::2, 1] = (targets[::2, 1] + 1) % 3  # one mistake in every other row
    targets[:, 3] = IGNORED
    tokens, sequences = TokenAccuracy(), SequenceAccuracy()
    for rows in torch.arange(9).split(4):
        tokens.update(logits[rows], targets[rows])
        sequences.update(logits[rows], targets[rows])
    assert tokens.compute().item() == pytest.approx((27 - 5) / 27)
    assert sequences.compute().item() == pytest.approx(4 / 9)
    assert not tokens.state_dict()
