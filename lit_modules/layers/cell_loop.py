"""A recurrent network as a Python loop over time, with one cell for each layer."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.recurrent_cells import GRUCell, LSTMCell, RNNCell, State

Cell = Literal["rnn", "gru", "lstm"]

CELLS: dict[str, Any] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}


class CellLoop(nn.Module):
    """The same computation as a stack of `lit_modules.layers.recurrent`, written as a loop.

        outputs            y₀       y₁       y₂
                           ↑        ↑        ↑
        cells[1]    h → [cell] → [cell] → [cell] → h
                           ↑        ↑        ↑
        cells[0]    h → [cell] → [cell] → [cell] → h
                           ↑        ↑        ↑
        inputs             x₀       x₁       x₂

    With the same seed it has the same weights and outputs as the stack. It is slower, because each step
    computes its own product with the input.

    Args:
        cell: Kind of cell.
        input_size: D.
        hidden_size: H.
        num_layers: L.
        dropout: Probability of dropping an output of any layer but the last, in training.
        implementation: PyTorch's kernel for a step, or the formula by hand.

    Raises:
        ValueError: Unknown kind of cell or implementation.
    """

    def __init__(
        self,
        *,
        cell: Cell = "rnn",
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("cell", cell, Cell)
        self.num_layers = num_layers
        self.dropout = building_blocks(implementation).dropout(dropout)
        self.cells = nn.ModuleList(
            CELLS[cell](
                input_size=hidden_size if layer else input_size,
                hidden_size=hidden_size,
                implementation=implementation,
            )
            for layer in range(num_layers)
        )

    def forward(
        self, inputs: Tensor, state: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over a batch of sequences.

        Args:
            inputs: (B, T, D), T ≥ 1.
            state: State before the first step, each tensor (L, B, H); zeros by default.
            lengths: Number of real steps of each row, (B,), from 1 to T; T by default. The rest is padding.

        Returns:
            The outputs of the last layer, (B, T, H), zero on padding; and the state after the last real step,
            each tensor (L, B, H).

        Raises:
            ValueError: Inputs of another shape.
        """
        if inputs.dim() != 3 or inputs.shape[1] == 0:
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}, expected (batch, steps ≥ 1, width)")
        if state is None:
            states: list[State | None] = [None] * self.num_layers
        else:
            states = list(zip(*state, strict=True))
        outputs = []
        for position, hidden in enumerate(inputs.unbind(1)):  # (B, D)
            for layer, cell in enumerate(self.cells):
                if layer:
                    hidden = self.dropout(hidden)
                after = _step(cell, hidden, states[layer])
                hidden = after[0]  # (B, H)
                if lengths is not None:
                    real = (position < lengths).unsqueeze(-1)  # (B, 1)
                    before = states[layer] or tuple(torch.zeros_like(part) for part in after)
                    after = tuple(torch.where(real, n, o) for n, o in zip(after, before, strict=True))
                    hidden = torch.where(real, hidden, 0)
                states[layer] = after
            outputs.append(hidden)
        last = [after for after in states if after is not None]
        return torch.stack(outputs, dim=1), tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _step(cell: nn.Module, inputs: Tensor, state: State | None) -> State:
    """Call a cell with a tuple; the cells of RNN and GRU take and return a tensor instead."""
    before: Any = state[0] if state is not None and len(state) == 1 else state
    after = cell(inputs, before)
    return after if isinstance(after, tuple) else (after,)
