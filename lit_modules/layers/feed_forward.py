"""The feed-forward network of a transformer: a two-layer MLP, or SwiGLU.

Shape letters: W width of the model, F width of the hidden layer.
"""

from collections.abc import Callable
from functools import partial

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.transformer import FeedForwardActivation
from lit_modules.layers.activations import gelu, gelu_tanh, relu, silu, squared_relu
from lit_modules.layers.argument_checks import LayerImplementation, check_choice, check_probability
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.dropout import Dropout

_BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "squared_relu": squared_relu,
}
_FUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "squared_relu": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    """dropout(down(dropout(activation(up(x))))).

    Args:
        width: W.
        hidden_width: F, usually 4 · W.
        activation: Activation between the two layers.
        bias: Whether the two layers have biases.
        dropout: Probability of dropping a hidden unit in training.
        output_dropout: Probability of dropping an entry of the output in training.
        implementation: `fused` is PyTorch's activation, `by_hand` the one of `activations`; also applies to
            the linear layers.

    Raises:
        ValueError: Unknown activation or implementation; a dropout rate outside [0, 1).

    Source: Vaswani et al. 2017, "Attention is all you need", eq. 2.
    """

    def __init__(
        self,
        width: int,
        hidden_width: int,
        *,
        activation: FeedForwardActivation = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("activation", activation, FeedForwardActivation)
        check_choice("implementation", implementation, LayerImplementation)
        check_probability("dropout", dropout)
        check_probability("output_dropout", output_dropout)
        linear = building_blocks(implementation).linear
        self.up = linear(width, hidden_width, bias=bias)
        self.down = linear(hidden_width, width, bias=bias)
        self.activation = (_FUSED if implementation == "fused" else _BY_HAND)[activation]
        self.dropout = Dropout(dropout)
        self.output_dropout = Dropout(output_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, W) to (…, W)."""
        hidden = self.dropout(self.activation(self.up(x)))  # (…, F)
        return self.output_dropout(self.down(hidden))


class SwiGLU(nn.Module):
    """dropout(down(dropout(silu(gate(x)) ⊙ up(x)))), the feed-forward network of Llama.

    It has three matrices. With F = 8/3 · W it has as many weights as a `FeedForward` with F = 4 · W.

    The arguments are those of `FeedForward`, without `activation`.

    Raises:
        ValueError: Unknown implementation; a dropout rate outside [0, 1).

    Source: Shazeer 2020, "GLU variants improve Transformer", eq. 6.
    """

    def __init__(
        self,
        width: int,
        hidden_width: int,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, LayerImplementation)
        check_probability("dropout", dropout)
        check_probability("output_dropout", output_dropout)
        linear = building_blocks(implementation).linear
        self.gate = linear(width, hidden_width, bias=bias)
        self.up = linear(width, hidden_width, bias=bias)
        self.down = linear(hidden_width, width, bias=bias)
        self.silu = F.silu if implementation == "fused" else silu
        self.dropout = Dropout(dropout)
        self.output_dropout = Dropout(output_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, W) to (…, W)."""
        hidden = self.dropout(self.silu(self.gate(x)) * self.up(x))  # (…, F)
        return self.output_dropout(self.down(hidden))
