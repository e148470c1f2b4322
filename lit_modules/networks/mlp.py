"""The multilayer perceptron on flattened inputs, such as images or table rows."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation
from lit_modules.layers.building_blocks import building_blocks


class MLP(nn.Module):
    """A multilayer perceptron: x ← dropout(act(norm(W x + b))) in each hidden layer, then W x + b.

    Shape letters: B inputs, F width of the last hidden layer, K outputs.

    Args:
        input_shape: Shape of one input, such as (C, H, W) of an image.
        num_outputs: K.
        hidden: Widths of the hidden layers; an empty list gives a linear classifier.
        activation: a name of `make_activation`.
        batch_norm: Whether each activation follows a batch norm (Ioffe & Szegedy 2015). The linear layer
            before the norm has no bias, because the norm would cancel it.
        dropout: Probability of dropping a hidden activation in training (Srivastava et al. 2014).
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: `input_shape` is empty; unknown activation.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        hidden: Sequence[int],
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        if not input_shape:
            raise ValueError("input_shape is (), expected at least one dimension")
        blocks = building_blocks(implementation)
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers.append(blocks.linear(fan_in, fan_out, bias=not batch_norm))
            if batch_norm:
                layers.append(blocks.batch_norm1d(fan_out))
            layers.append(blocks.activation(activation))
            if dropout:
                layers.append(blocks.dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = blocks.linear(widths[-1], num_outputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the activations of the last hidden layer: (B, …) → (B, F)."""
        return self.body(inputs.flatten(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the outputs: (B, …) → (B, K)."""
        return self.head(self.features(inputs))
