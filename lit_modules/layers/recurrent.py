r"""Recurrent networks, as cells that take one step and as stacked layers that run over a sequence.

A step reads an input x and the state that the step before left, and leaves the next one:

.. math::
    \text{RNN:} \quad & h ← \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh}) \\
    \text{LSTM:} \quad & (i, f, g, o) = W_{ih} x + b_{ih} + W_{hh} h + b_{hh} \\
        & c ← σ(f) ⊙ c + σ(i) ⊙ \tanh(g), \qquad h ← σ(o) ⊙ \tanh(c) \\
    \text{GRU:} \quad & (r, z, n) = W_{ih} x + b_{ih}, \qquad (r', z', n') = W_{hh} h + b_{hh} \\
        & \hat{h} = \tanh(n + σ(r + r') ⊙ n'), \qquad h ← (1 − σ(z + z')) ⊙ \hat{h} + σ(z + z') ⊙ h

(Elman 1990; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014, with
the reset gate behind the product, where one product serves all three gates.)

Parameters have PyTorch's names, shapes, order of gates and initial values, so a `state_dict` passes between
the two. Only a step's product with h has to wait for the step before: the products with x are one matrix
product over the whole sequence, which is what makes a layer faster than a loop over a cell.

Shape letters: B batch, T steps, D input width, H hidden width, G gates (RNN 1, LSTM 4, GRU 3), L layers,
R directions (2 if bidirectional, else 1).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice

State = tuple[Tensor, ...]
"""(h,) of an RNN or a GRU, (h, c) of an LSTM. The first is the output."""

Step = Callable[[Tensor, State, Tensor, Tensor | None], State]


def rnn_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """One step of an Elman network.

    Args:
        projected: W_ih x + b_ih, (B, H).
        state: (h,), (B, H).
        weight: W_hh, (H, H).
        bias: b_hh, (H,).

    Returns:
        The next (h,).
    """
    (hidden,) = state
    return (torch.tanh(projected + F.linear(hidden, weight, bias)),)


def lstm_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """One step of an LSTM.

    Args:
        projected: W_ih x + b_ih, (B, 4H), gates in the order input, forget, candidate, output.
        state: (h, c), each (B, H).
        weight: W_hh, (4H, H).
        bias: b_hh, (4H,).

    Returns:
        The next (h, c).
    """
    hidden, cell = state
    gates = projected + F.linear(hidden, weight, bias)  # (B, 4H)
    enter, keep, candidate, leave = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def gru_step(projected: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """One step of a GRU.

    Args:
        projected: W_ih x + b_ih, (B, 3H), gates in the order reset, update, candidate.
        state: (h,), (B, H).
        weight: W_hh, (3H, H).
        bias: b_hh, (3H,).

    Returns:
        The next (h,).
    """
    (hidden,) = state
    width = hidden.shape[-1]
    of_input, input_candidate = projected.split([2 * width, width], dim=-1)
    of_hidden, hidden_candidate = F.linear(hidden, weight, bias).split([2 * width, width], dim=-1)
    reset, update = torch.sigmoid(of_input + of_hidden).chunk(2, dim=-1)
    candidate = torch.tanh(input_candidate + reset * hidden_candidate)
    return (candidate + update * (hidden - candidate),)


class _CellOptions:
    """The constructor that the three cells share."""

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        implementation: LayerImplementation = "fused",
    ) -> None:
        """Set up the weights.

        Args:
            input_size: D.
            hidden_size: H.
            bias: Whether both products have one.
            implementation: PyTorch's kernel for a step, or the function above.
        """
        check_choice("implementation", implementation, LayerImplementation)
        super().__init__(input_size, hidden_size, bias=bias)  # type: ignore[call-arg]  # PyTorch's cell
        self.implementation = implementation


class RNNCell(_CellOptions, nn.RNNCell):
    """One step of an Elman network, `rnn_step`."""

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Take a step from (B, D) inputs and a (B, H) state, zeros by default, to the next (B, H) state.

        Raises:
            ValueError: The inputs aren't (B, D).
        """
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, hidden)
        if hidden is None:
            hidden = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        projected = F.linear(inputs, self.weight_ih, self.bias_ih)  # (B, H)
        return rnn_step(projected, (hidden,), self.weight_hh, self.bias_hh)[0]


class LSTMCell(_CellOptions, nn.LSTMCell):
    """One step of an LSTM, `lstm_step`."""

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Take a step from (B, D) inputs and a state (h, c), zeros by default, to the next; each is (B, H).

        Raises:
            ValueError: The inputs aren't (B, D).
        """
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, state)
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], self.hidden_size)
            state = (zeros, zeros)
        projected = F.linear(inputs, self.weight_ih, self.bias_ih)  # (B, 4H)
        hidden, cell = lstm_step(projected, state, self.weight_hh, self.bias_hh)
        return hidden, cell


class GRUCell(_CellOptions, nn.GRUCell):
    """One step of a GRU, `gru_step`."""

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Take a step from (B, D) inputs and a (B, H) state, zeros by default, to the next (B, H) state.

        Raises:
            ValueError: The inputs aren't (B, D).
        """
        _check_step(inputs, self.input_size)
        if self.implementation == "fused":
            return super().forward(inputs, hidden)
        if hidden is None:
            hidden = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        projected = F.linear(inputs, self.weight_ih, self.bias_ih)  # (B, 3H)
        return gru_step(projected, (hidden,), self.weight_hh, self.bias_hh)[0]


def _check_step(inputs: Tensor, input_size: int) -> None:
    if inputs.dim() != 2 or inputs.shape[-1] != input_size:
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}, expected (batch, {input_size})")


class _LayerOptions:
    """The constructor that the three stacks share."""

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        implementation: LayerImplementation = "fused",
    ) -> None:
        """Set up the weights.

        Args:
            input_size: D.
            hidden_size: H.
            num_layers: L; each layer above the first reads the outputs of the one below.
            bias: Whether both products have one.
            dropout: Rate on the outputs of every layer but the last, in training.
            bidirectional: Beside each layer runs another from the last step to the first.
            implementation: PyTorch's kernel for the whole sequence, or `run_by_hand`.
        """
        check_choice("implementation", implementation, LayerImplementation)
        super().__init__(  # type: ignore[call-arg]  # PyTorch's stack
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        self.implementation = implementation


class RNN(_LayerOptions, nn.RNN):
    """A stack of Elman layers over a sequence: `rnn_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` takes the place of PyTorch's packed sequences
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a batch of sequences.

        Args:
            inputs: (B, T, D).
            hidden: State before the first step, (L·R, B, H); zeros by default.
            lengths: Real steps of each row, (B,), each in 1 … T; all T by default. What follows is padding.

        Returns:
            The last layer's outputs, (B, T, R·H), zeros behind a row's length; and each layer's state after
            a row's last real step, (L·R, B, H).

        Raises:
            ValueError: A shape or a length doesn't fit.
        """
        _check_sequence(self, inputs, lengths)
        if self.implementation == "fused":
            return _run_fused(super().forward, inputs, hidden, lengths)
        outputs, (hidden,) = run_by_hand(
            self, rnn_step, inputs, None if hidden is None else (hidden,), lengths
        )
        return outputs, hidden


class LSTM(_LayerOptions, nn.LSTM):
    """A stack of LSTM layers over a sequence: `lstm_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` takes the place of PyTorch's packed sequences
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over a batch of sequences.

        Args:
            inputs: (B, T, D).
            state: Hidden and cell state before the first step, each (L·R, B, H); zeros by default.
            lengths: Real steps of each row, (B,), each in 1 … T; all T by default. What follows is padding.

        Returns:
            The last layer's outputs, (B, T, R·H), zeros behind a row's length; and each layer's hidden and
            cell state after a row's last real step, each (L·R, B, H).

        Raises:
            ValueError: A shape or a length doesn't fit.
        """
        _check_sequence(self, inputs, lengths)
        if self.implementation == "fused":
            return _run_fused(super().forward, inputs, state, lengths)
        outputs, (hidden, cell) = run_by_hand(self, lstm_step, inputs, state, lengths)
        return outputs, (hidden, cell)


class GRU(_LayerOptions, nn.GRU):
    """A stack of GRU layers over a sequence: `gru_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` takes the place of PyTorch's packed sequences
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a batch of sequences; arguments and results are those of `RNN.forward`."""
        _check_sequence(self, inputs, lengths)
        if self.implementation == "fused":
            return _run_fused(super().forward, inputs, hidden, lengths)
        outputs, (hidden,) = run_by_hand(
            self, gru_step, inputs, None if hidden is None else (hidden,), lengths
        )
        return outputs, hidden


def run_by_hand(
    stack: nn.RNNBase, step: Step, inputs: Tensor, state: State | None, lengths: Tensor | None
) -> tuple[Tensor, State]:
    """Run every layer and direction of a stack over a sequence.

    Half-precision sequences run in fp32: a state that is rounded at every step drifts, and PyTorch's LSTM
    doesn't round it either.

    Args:
        stack: Holds the weights.
        step: What its layers do at one position.
        inputs: (B, T, D).
        state: Before the first step, each tensor (L·R, B, H); zeros by default.
        lengths: Real steps of each row, (B,).

    Returns:
        The last layer's outputs, (B, T, R·H), and the state after the last step, each tensor (L·R, B, H).
    """
    directions = 2 if stack.bidirectional else 1
    if state is None:
        zeros = inputs.new_zeros(stack.num_layers * directions, inputs.shape[0], stack.hidden_size)
        state = (zeros, zeros) if step is lstm_step else (zeros,)
    state = tuple(widen(part) for part in state)
    hidden = widen(inputs).transpose(0, 1)  # (T, B, D): the steps below then read memory in order
    last_states = []
    for layer in range(stack.num_layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            before = tuple(part[index] for part in state)
            output, after = _run_direction(
                step, hidden, before, stack.all_weights[index], lengths, direction == 1
            )
            outputs.append(output)
            last_states.append(after)
        hidden = torch.cat(outputs, dim=-1)  # (T, B, R·H)
        if layer < stack.num_layers - 1:
            hidden = F.dropout(hidden, stack.dropout, stack.training)
    state = tuple(torch.stack(parts).to(inputs.dtype) for parts in zip(*last_states, strict=True))
    return hidden.transpose(0, 1).to(inputs.dtype), state


def _run_direction(
    step: Step,
    inputs: Tensor,
    state: State,
    weights: list[nn.Parameter],
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, State]:
    """(T, B, D) → (T, B, H) and the state after the last step, by one pass over time."""
    weight_ih, weight_hh, *biases = (widen(weight) for weight in weights)
    bias_ih, bias_hh = biases or (None, None)
    projected = F.linear(inputs, weight_ih, bias_ih).unbind(0)  # T times (B, G·H), by one product
    positions = range(len(projected))
    outputs = []
    for position in reversed(positions) if reverse else positions:
        after = step(projected[position], state, weight_hh, bias_hh)
        if lengths is not None:
            # In padding a state stays as it is; running backwards, a row so begins at its last real step.
            real = (position < lengths).unsqueeze(-1)  # (B, 1)
            outputs.append(torch.where(real, after[0], 0))
            state = tuple(torch.where(real, new, old) for new, old in zip(after, state, strict=True))
        else:
            outputs.append(after[0])
            state = after
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _run_fused(kernel: Callable[..., Any], inputs: Tensor, state: Any, lengths: Tensor | None) -> Any:
    """PyTorch's kernel, its packed sequences between lengths and padding."""
    if lengths is None:
        return kernel(inputs, state)
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    outputs, state = kernel(packed, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])[0], state


def _check_sequence(stack: nn.RNNBase, inputs: Tensor, lengths: Tensor | None) -> None:
    if inputs.dim() != 3 or inputs.shape[1] == 0 or inputs.shape[2] != stack.input_size:
        shape = tuple(inputs.shape)
        raise ValueError(f"inputs have shape {shape}, expected (batch, at least 1 step, {stack.input_size})")
    if lengths is None:
        return
    batch, steps = inputs.shape[:2]
    if lengths.shape != (batch,):
        raise ValueError(f"lengths have shape {tuple(lengths.shape)}, expected ({batch},)")
    if batch and not 1 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ValueError(f"lengths are {lengths.tolist()}, expected values from 1 to {steps}")
