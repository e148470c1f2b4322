"""The linear layer by hand."""

from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute y = x Wᵀ + b, the same as `F.linear`.

    Args:
        x: (…, inputs).
        weight: W, (outputs, inputs).
        bias: b, (outputs,).

    Returns:
        y, (…, outputs).
    """
    y = x @ weight.T
    return y if bias is None else y + bias.to(y.dtype)


class Linear(nn.Linear):
    """`linear` as a layer, with PyTorch's arguments, parameters and initial values."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, inputs) to (…, outputs)."""
        return linear(x, self.weight, self.bias)
