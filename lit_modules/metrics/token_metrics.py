"""Metrics of predicted tokens over an epoch; every token has the same weight."""

import math

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from datamodules.info import TextInfo

IGNORED = -100
"""The target of a position that does not count, such as padding or a prompt."""


class Perplexity(MeanMetric):
    """The exponential of the mean cross-entropy, updated with the losses of tokens in nats."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # a NaN loss stays visible

    def compute(self) -> Tensor:
        """Return a scalar ≥ 1."""
        return super().compute().exp()


class BitsPerByte(MeanMetric):
    """The mean cross-entropy per byte of text in bits, which compares across tokenizers.

    It is updated with the losses of tokens in nats.

    Args:
        bytes_per_token: Mean number of UTF-8 bytes per token of this text.
    """

    def __init__(self, bytes_per_token: float) -> None:
        super().__init__(nan_strategy="disable")
        assert bytes_per_token > 0
        self.bytes_per_token = bytes_per_token

    def compute(self) -> Tensor:
        """Return a scalar ≥ 0."""
        return super().compute() / (math.log(2) * self.bytes_per_token)


class TokenAccuracy(Metric):
    """The share of tokens that are predicted correctly.

    Updated with logits (B, T, V) and targets (B, T). Targets of −100 are ignored.
    """

    full_state_update = False
    higher_is_better = True

    correct: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        self.correct += (logits.argmax(-1) == targets).sum()
        self.total += (targets != IGNORED).sum()

    def compute(self) -> Tensor:
        """Return a scalar in [0, 1]; NaN without any target."""
        return self.correct / self.total


class SequenceAccuracy(TokenAccuracy):
    """The share of sequences in which every token is predicted correctly."""

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        right = (logits.argmax(-1) == targets) | (targets == IGNORED)
        self.correct += right.all(1).sum()
        self.total += len(targets)


def text_metrics(info: TextInfo, stage: str) -> dict[str, Metric]:
    """Build the metrics of a text in addition to its loss: perplexity and, if known, bits per byte."""
    bytes_per_token = info.bytes_per_token if stage == "val" else info.test_bytes_per_token
    bits = {"bits_per_byte": BitsPerByte(bytes_per_token)} if bytes_per_token else {}
    return {"perplexity": Perplexity(), **bits}
