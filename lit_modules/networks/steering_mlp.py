"""The two-layer network that predicts a steering vector from a hidden state.

Shape letters: D width of both vectors, F hidden units.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation, check_choice, check_probability
from lit_modules.layers.building_blocks import building_blocks

SteeringActivation = Literal["relu", "tanh"]
SteeringSkip = Literal["none", "linear"]


class SteeringMLP(nn.Module):
    r"""g(h) = s · (W₂ (φ(W₁ x + b₁) − φ(c)) + b₂ [+ A x]), where x = (h − m) / σ.

    The usual network has m = c = 0, σ = s = 1 and no A: two linear layers with φ between them.

    With hidden biases that start at c > 0, a ReLU is the identity until the input of a unit falls below −c.
    The network then starts as a linear map of rank F. Subtracting φ(c), the output of a unit for x = 0 at the
    start, keeps the initial output around zero and the two matrices well conditioned. It adds no freedom,
    because b₂ could hold the same constant.

    Args:
        width: D.
        hidden: F.
        activation: φ, `"relu"` or `"tanh"`.
        skip: `"linear"` adds the linear map A that bypasses the hidden units. A and W₂ then start at zero.
        hidden_bias: c; 0 leaves the biases as PyTorch draws them.
        dropout: Dropout probability of x and of the hidden units.
        input_mean: m, (D,); zeros by default.
        input_std: σ, (D,); ones by default. An entry of 0, from an input that never changes, counts as 1.
        output_scale: s.
        min_length: In evaluation, a vector shorter than this becomes zero, so that a prompt that needs no
            steering is not changed at all.
        equal_length: In evaluation, all other vectors are scaled to this length; `None` leaves them alone.
            Squared error makes a vector shorter where the direction is uncertain, and this undoes it.
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: The activation or skip is unknown, dropout is outside [0, 1), or a mean or standard
            deviation does not have length D.

    Source: Parekh et al. 2025, "Learning to Steer" (arXiv 2508.12815).
    """

    input_mean: Tensor
    input_std: Tensor

    def __init__(
        self,
        *,
        width: int,
        hidden: int,
        activation: SteeringActivation = "relu",
        skip: SteeringSkip = "none",
        hidden_bias: float = 0.0,
        dropout: float = 0.0,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        output_scale: float = 1.0,
        min_length: float = 0.0,
        equal_length: float | None = None,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("activation", activation, SteeringActivation)
        check_choice("skip", skip, SteeringSkip)
        check_probability("dropout", dropout)
        self.width = width
        blocks = building_blocks(implementation)
        self.hidden = blocks.linear(width, hidden)
        self.activation = blocks.activation(activation)
        self.output = blocks.linear(hidden, width)
        self.skip = blocks.linear(width, width, bias=False) if skip == "linear" else None
        self.rest = 0.0
        if hidden_bias:
            nn.init.constant_(self.hidden.bias, hidden_bias)
            self.rest = float(self.activation(torch.tensor(hidden_bias)))
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)
            nn.init.zeros_(self.output.weight)
        self.dropout = blocks.dropout(dropout)
        self.output_scale = output_scale
        self.min_length = min_length
        self.equal_length = equal_length
        self.register_buffer("input_mean", _vector("input_mean", input_mean, width, 0.0))
        std = _vector("input_std", input_std, width, 1.0)
        self.register_buffer("input_std", std.where(std != 0, 1.0))

    def forward(self, states: Tensor) -> Tensor:
        """Predict vectors (..., D) from hidden states (..., D)."""
        x = self.dropout((states - self.input_mean) / self.input_std)
        units = self.activation(self.hidden(x)) - self.rest  # (..., F)
        vectors = self.output(self.dropout(units))
        if self.skip is not None:
            vectors = vectors + self.skip(x)
        vectors = self.output_scale * vectors
        if self.training:
            return vectors
        lengths = vectors.norm(dim=-1, keepdim=True)
        if self.min_length:
            vectors = torch.where(lengths < self.min_length, 0.0, vectors)
        if self.equal_length is not None:
            vectors = vectors * (self.equal_length / lengths.where(lengths > 0, 1.0))
        return vectors


def _vector(name: str, values: Sequence[float] | None, width: int, default: float) -> Tensor:
    if values is None:
        return torch.full((width,), default)
    if len(values) != width:
        raise ValueError(f"{name} has {len(values)} entries, expected the width {width}")
    return torch.tensor(values, dtype=torch.get_default_dtype())
