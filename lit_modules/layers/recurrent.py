"""Recurrent layers: stacks of RNN, LSTM or GRU layers that run over a sequence.

Parameters have PyTorch's names, shapes, gate order and initial values, so a `state_dict` fits both. Only the
product of a step with h depends on the previous step. The products with x are one matrix product for the
whole sequence, which makes a layer faster than a loop over a cell.

Shape letters: B batch, T steps, D input width, H hidden width, G gates (RNN 1, LSTM 4, GRU 3), L layers,
R directions (2 if bidirectional, else 1).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.dropout import dropout
from lit_modules.layers.linear import linear
from lit_modules.layers.recurrent_cells import State, Step, gru_step, lstm_step, rnn_step


class _StackBase:
    """The constructor of all stacks."""

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
        """Create the weights.

        Args:
            input_size: D.
            hidden_size: H.
            num_layers: L; each further layer takes the outputs of the layer below as inputs.
            bias: Whether the two products have biases.
            dropout: Probability of dropping an output of any layer but the last, in training.
            bidirectional: Add a second direction to each layer, from the last step to the first.
            implementation: PyTorch's kernel for the whole sequence, or `run_by_hand`.

        Raises:
            ValueError: Unknown implementation.
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


class RNN(_StackBase, nn.RNN):
    """A stack of Elman layers over a sequence: `rnn_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` replaces PyTorch's packed sequences
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a batch of sequences.

        Args:
            inputs: (B, T, D).
            hidden: State before the first step, (L·R, B, H); zeros by default.
            lengths: Number of real steps of each row, (B,), from 1 to T; T by default. The rest is padding.

        Returns:
            The outputs of the last layer, (B, T, R·H), zero on padding; and the state of each layer after the
            last real step, (L·R, B, H).

        Raises:
            ValueError: Inputs or lengths of another shape; a length outside 1 … T.
        """
        _check_sequence(self, inputs, lengths)
        if self.implementation == "fused":
            return _run_fused(super().forward, inputs, hidden, lengths)
        outputs, (hidden,) = run_by_hand(
            self, rnn_step, inputs, None if hidden is None else (hidden,), lengths
        )
        return outputs, hidden


class LSTM(_StackBase, nn.LSTM):
    """A stack of LSTM layers over a sequence: `lstm_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` replaces PyTorch's packed sequences
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over a batch as `RNN.forward` does; the state is (h, c), each (L·R, B, H)."""
        _check_sequence(self, inputs, lengths)
        if self.implementation == "fused":
            return _run_fused(super().forward, inputs, state, lengths)
        outputs, (hidden, cell) = run_by_hand(self, lstm_step, inputs, state, lengths)
        return outputs, (hidden, cell)


class GRU(_StackBase, nn.GRU):
    """A stack of GRU layers over a sequence: `gru_step` at every position."""

    def forward(  # type: ignore[override]  # `lengths` replaces PyTorch's packed sequences
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a batch of sequences, with the arguments and results of `RNN.forward`."""
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

    Half-precision sequences run in fp32, because a state that is rounded at each step drifts.

    Args:
        stack: Module with the weights.
        step: Function for one step.
        inputs: (B, T, D).
        state: State before the first step, each tensor (L·R, B, H); zeros by default.
        lengths: Number of real steps of each row, (B,).

    Returns:
        The outputs of the last layer, (B, T, R·H), and the last state, each tensor (L·R, B, H).
    """
    directions = 2 if stack.bidirectional else 1
    if state is None:
        zeros = inputs.new_zeros(stack.num_layers * directions, inputs.shape[0], stack.hidden_size)
        state = (zeros, zeros) if step is lstm_step else (zeros,)
    state = tuple(widen(part) for part in state)
    hidden = widen(inputs).transpose(0, 1)  # (T, B, D), so that steps read contiguous memory
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
        if stack.training and layer < stack.num_layers - 1:
            hidden = dropout(hidden, stack.dropout)
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
    """Run one direction of a layer: (T, B, D) → (T, B, H) and the state after the last step."""
    weight_ih, weight_hh, *biases = (widen(weight) for weight in weights)
    bias_ih, bias_hh = biases or (None, None)
    projected = linear(inputs, weight_ih, bias_ih).unbind(0)  # T tensors (B, G·H), from one product
    positions = range(len(projected))
    outputs = []
    for position in reversed(positions) if reverse else positions:
        after = step(projected[position], state, weight_hh, bias_hh)
        if lengths is not None:
            # Padding leaves the state unchanged, so the backward direction starts at the last real step.
            real = (position < lengths).unsqueeze(-1)  # (B, 1)
            outputs.append(torch.where(real, after[0], 0))
            state = tuple(torch.where(real, new, old) for new, old in zip(after, state, strict=True))
        else:
            outputs.append(after[0])
            state = after
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _run_fused(kernel: Callable[..., Any], inputs: Tensor, state: Any, lengths: Tensor | None) -> Any:
    """Run PyTorch's kernel, with packed sequences where there are lengths."""
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
