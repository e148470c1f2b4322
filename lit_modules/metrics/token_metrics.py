"""How well a text is predicted, over all tokens of an epoch: each counts alike, whatever batch it came in."""

import math

from torch import Tensor
from torchmetrics import MeanMetric


class TokenLoss(MeanMetric):
    """Mean cross-entropy of a token, in nats; updated with the losses of tokens, of any shape.

    A NaN stays one: leaving it out would make a broken model look better.
    """

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")


class Perplexity(TokenLoss):
    """exp of the mean cross-entropy: how many equally likely tokens the model is as unsure as."""

    def compute(self) -> Tensor:
        """A scalar ≥ 1."""
        return super().compute().exp()


class BitsPerByte(TokenLoss):
    """Mean cross-entropy in bits, of a byte of text and not of a token, so that tokenizers compare.

    Args:
        bytes_per_token: UTF-8 bytes that a token of this text stands for on average.
    """

    def __init__(self, bytes_per_token: float) -> None:
        super().__init__()
        assert bytes_per_token > 0
        self.bytes_per_token = bytes_per_token

    def compute(self) -> Tensor:
        """A scalar ≥ 0."""
        return super().compute() / (math.log(2) * self.bytes_per_token)
