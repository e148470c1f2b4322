"""The table of an embedding by hand."""

from torch import Tensor, nn


class Embedding(nn.Embedding):
    """Row t of the table for each token t, with PyTorch's arguments, parameters and initial values.

    It is the product of a one-hot vector and the table, without the multiplications by 0.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up (…) → (…, W)."""
        return self.weight[tokens]
