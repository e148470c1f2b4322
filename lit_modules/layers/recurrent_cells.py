"""Recurrent cells: one step of an Elman network, an LSTM or a GRU.

A step computes the next state from an input x and the previous state:

    RNN     h ← tanh(W_ih x + b_ih + W_hh h + b_hh)

    LSTM    (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh
            c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g)
            h ← σ(o) ⊙ tanh(c)

    GRU     (r, z, n) = W_ih x + b_ih,   (r', z', n') = W_hh h + b_hh
            ĥ = tanh(n + σ(r + r') ⊙ n')
            h ← (1 − σ(z + z')) ⊙ ĥ + σ(z + z') ⊙ h

Sources: Elman 1990; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014.
As in PyTorch, the GRU applies the reset gate after the product with h, so that one product serves all gates.

Parameters have PyTorch's names, shapes, gate order and initial values, so a `state_dict` fits both.

Shape letters: B batch, D input width, H hidden width, G gates (RNN 1, LSTM 4, GRU 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.linear import linear

State = tuple[Tensor, ...]
"""(h,) for an RNN or a GRU, (h, c) for an LSTM. The first is the output."""

Step = Callable[[Tensor, State, Tensor, Tensor | None], State]


def rnn_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """Compute one step of an Elman network.

    Args:
        projected: W_ih x + b_ih, (B, H).
        state: (h,), (B, H).
        weight: W_hh, (H, H).
        bias: b_hh, (H,).

    Returns:
        The next (h,).
    """
    (hidden,) = state
    return (torch.tanh(projected + linear(hidden, weight, bias)),)


def lstm_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """Compute the next (h, c) of an LSTM, with the arguments of `rnn_step`.

    `projected` (B, 4H), `weight` (4H, H) and `bias` (4H,) have four parts: the input gate, the forget
    gate, the candidate and the output gate.
    """
    hidden, cell = state
    gates = projected + linear(hidden, weight, bias)  # (B, 4H)
    enter, keep, candidate, leave = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def gru_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """Compute the next (h,) of a GRU, with the arguments of `rnn_step`.

    `projected` (B, 3H), `weight` (3H, H) and `bias` (3H,) have three parts: the reset gate, the update
    gate and the candidate.
    """
    (hidden,) = state
    width = hidden.shape[-1]
    of_input, input_candidate = projected.split([2 * width, width], dim=-1)
    of_hidden, hidden_candidate = linear(hidden, weight, bias).split([2 * width, width], dim=-1)
    reset, update = torch.sigmoid(of_input + of_hidden).chunk(2, dim=-1)
    candidate = torch.tanh(input_candidate + reset * hidden_candidate)
    return (candidate + update * (hidden - candidate),)


class _CellBase:
    """The constructor of all cells."""

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        implementation: LayerImplementation = "fused",
    ) -> None:
        """Create the weights.

        Args:
            input_size: D.
            hidden_size: H.
            bias: Whether the two products have biases.
            implementation: PyTorch's kernel for a step, or the function of this module.

        Raises:
            ValueError: Unknown implementation.
        """
        check_choice("implementation", implementation, LayerImplementation)
        super().__init__(input_size, hidden_size, bias=bias)  # type: ignore[call-arg]  # PyTorch's cell
        self.implementation = implementation


class RNNCell(_CellBase, nn.RNNCell):
    """An RNN cell: `rnn_step`."""

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Compute the next state.

        Args:
            inputs: (B, D).
            hidden: The previous state, (B, H); zeros by default.

        Returns:
            The next state, (B, H).

        Raises:
            ValueError: Inputs of another shape.
        """
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, hidden)
        if hidden is None:
            hidden = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        projected = linear(inputs, self.weight_ih, self.bias_ih)  # (B, H)
        return rnn_step(projected, (hidden,), self.weight_hh, self.bias_hh)[0]


class LSTMCell(_CellBase, nn.LSTMCell):
    """An LSTM cell: `lstm_step`."""

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Compute the next (h, c), each (B, H), from the previous one; otherwise as `RNNCell.forward`."""
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, state)
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], self.hidden_size)
            state = (zeros, zeros)
        projected = linear(inputs, self.weight_ih, self.bias_ih)  # (B, 4H)
        hidden, cell = lstm_step(projected, state, self.weight_hh, self.bias_hh)
        return hidden, cell


class GRUCell(_CellBase, nn.GRUCell):
    """A GRU cell: `gru_step`."""

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Compute the next state, with the arguments and results of `RNNCell.forward`."""
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, hidden)
        if hidden is None:
            hidden = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        projected = linear(inputs, self.weight_ih, self.bias_ih)  # (B, 3H)
        return gru_step(projected, (hidden,), self.weight_hh, self.bias_hh)[0]


def _check_step(inputs: Tensor, input_size: int) -> None:
    if inputs.dim() != 2 or inputs.shape[-1] != input_size:
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}, expected (batch, {input_size})")
