"""The multilayer perceptron on flattened inputs, such as images or table rows."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.residual import Residual

WeightInit = Literal["default", "he"]


class MLP(nn.Module):
    """A multilayer perceptron: x ← dropout(act(norm(W x + b))) in each hidden layer, then W x + b.

    With `residual`, a hidden layer f computes x + f(x).

    Shape letters: B inputs, F width of the last hidden layer, K outputs.

    Args:
        input_shape: Shape of one input, such as (C, H, W) of an image.
        num_outputs: K.
        hidden: Widths of the hidden layers; an empty list gives a linear classifier.
        activation: a name of `make_activation`.
        norm: Norm before each activation: `"none"`, `"batch_norm"`, `"layer_norm"` or `"rms_norm"`. The
            linear layer before a batch norm has no bias, because the norm would cancel it.
        weight_init: Initial values of the hidden layers: `"default"`, those of `nn.Linear`, or `"he"`, normal
            weights of variance 2 / inputs, and biases 0 (He et al. 2015, eq. 10).
        residual: Whether a hidden layer that keeps the width adds its input to its output.
        dropout: Probability of dropping a hidden activation in training (Srivastava et al. 2014).
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: `input_shape` is empty; unknown activation, norm or initial values.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        hidden: Sequence[int],
        activation: str = "relu",
        norm: str = "none",
        weight_init: WeightInit = "default",
        residual: bool = False,
        dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("weight_init", weight_init, WeightInit)
        if not input_shape:
            raise ValueError("input_shape is (), expected at least one dimension")
        blocks = building_blocks(implementation)
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            linear = blocks.linear(fan_in, fan_out, bias=norm != "batch_norm")
            if weight_init == "he":
                draw_he_weights(linear)
            layer: list[nn.Module] = [linear]
            if norm != "none":
                layer.append(blocks.norm(norm, fan_out))
            layer.append(blocks.activation(activation))
            if dropout:
                layer.append(blocks.dropout(dropout))
            layers += [Residual(nn.Sequential(*layer))] if residual and fan_in == fan_out else layer
        self.body = nn.Sequential(*layers)
        self.head = blocks.linear(widths[-1], num_outputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the activations of the last hidden layer: (B, …) → (B, F)."""
        return self.body(inputs.flatten(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the outputs: (B, …) → (B, K)."""
        return self.head(self.features(inputs))


def draw_he_weights(layer: nn.Linear) -> None:
    """Draw normal weights of variance 2 / inputs in place, and set the bias to 0 (He et al. 2015).

    A ReLU passes half of the mean square of its input; the factor 2 makes up for it.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
