"""The linear layer by hand."""

from torch import Tensor, nn


class Linear(nn.Linear):
    """y = x Wᵀ + b, with PyTorch's arguments, parameters and initial values."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, inputs) to (…, outputs)."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias.to(y.dtype)
