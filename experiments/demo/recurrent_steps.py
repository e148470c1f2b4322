"""Recurrent cells.

One step after another, with a state.
"""

from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from experiments.demo.outcome import Outcome, Result, random
from lit_modules.layers.recurrent_cells import GRUCell, LSTMCell, RNNCell


def rnn_cell() -> Outcome:
    """Mix the input with the previous state.

    Formula: h ← tanh(W_ih x + b_ih + W_hh h + b_hh)
    Source: Elman 1990, "Finding structure in time"
    Mistake: Starting each step from a zero state, so that nothing is remembered.
    Code: lit_modules/layers/recurrent_cells.py
    """
    x, ours = random(3, 1, 2), RNNCell(input_size=2, hidden_size=3, implementation="by_hand").double()
    theirs = nn.RNNCell(2, 3).double()
    theirs.load_state_dict(ours.state_dict())
    return Outcome(
        inputs={"x_1, x_2, x_3": x},
        results=[
            Result(
                "h_1, h_2, h_3",
                _unroll(ours, x),
                "nn.RNNCell",
                _unroll(theirs, x),
                wrong=("no state", torch.cat([theirs(step) for step in x])),
            )
        ],
    )


def lstm_cell() -> Outcome:
    """Keep a memory that gates write, forget and read.

    Formula: c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g), h ← σ(o) ⊙ tanh(c)
    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory"; Gers et al. 2000 (forget gate)
    Mistake: Another order of the gates than the weights have: PyTorch's is i, f, g, o.
    Code: lit_modules/layers/recurrent_cells.py
    """
    x, ours = random(3, 1, 2), LSTMCell(input_size=2, hidden_size=3, implementation="by_hand").double()
    theirs, wrong = nn.LSTMCell(2, 3).double(), nn.LSTMCell(2, 3).double()
    theirs.load_state_dict(ours.state_dict())
    wrong.load_state_dict(ours.state_dict())
    with torch.no_grad():
        for parameter in wrong.parameters():
            enter, keep, candidate, leave = parameter.clone().chunk(4)
            parameter.copy_(torch.cat([keep, enter, candidate, leave]))
    return Outcome(
        inputs={"x_1, x_2, x_3": x},
        results=[
            Result(
                "h_1, h_2, h_3",
                _unroll(ours, x),
                "nn.LSTMCell",
                _unroll(theirs, x),
                wrong=("gates f, i, g, o", _unroll(wrong, x)),
            )
        ],
    )


def gru_cell() -> Outcome:
    """Interpolate between the previous state and a candidate.

    Formula: h ← (1 − z) ⊙ tanh(n + r ⊙ n') + z ⊙ h, with (r, z, n) of x and n' = W_hn h + b_hn
    Source: Cho et al. 2014, "Learning phrase representations using RNN encoder–decoder"
    Mistake: Resetting h before its product, W (r ⊙ h): PyTorch resets after it.
    Code: lit_modules/layers/recurrent_cells.py
    """
    x, ours = random(3, 1, 2), GRUCell(input_size=2, hidden_size=3, implementation="by_hand").double()
    theirs = nn.GRUCell(2, 3).double()
    theirs.load_state_dict(ours.state_dict())

    def reset_before(inputs: Tensor, h: Tensor | None) -> Tensor:
        h = inputs.new_zeros(1, 3) if h is None else h
        r, z, n = F.linear(inputs, theirs.weight_ih, theirs.bias_ih).chunk(3, -1)
        r2, z2, _ = F.linear(h, theirs.weight_hh, theirs.bias_hh).chunk(3, -1)
        last = F.linear(torch.sigmoid(r + r2) * h, theirs.weight_hh[6:], theirs.bias_hh[6:])
        z = torch.sigmoid(z + z2)
        return (1 - z) * torch.tanh(n + last) + z * h

    return Outcome(
        inputs={"x_1, x_2, x_3": x},
        results=[
            Result(
                "h_1, h_2, h_3",
                _unroll(ours, x),
                "nn.GRUCell",
                _unroll(theirs, x),
                wrong=("W (r ⊙ h)", _unroll(reset_before, x)),
            )
        ],
    )


def _unroll(cell: Callable[..., Tensor | tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    """Run a cell over inputs (T, 1, D); return its states h, (T, H)."""
    state: Tensor | tuple[Tensor, Tensor] | None = None
    states = []
    for x in inputs:
        state = cell(x, state)
        states.append(state[0] if isinstance(state, tuple) else state)
    return torch.cat(states)
