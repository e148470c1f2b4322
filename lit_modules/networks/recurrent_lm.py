"""The recurrent language model: embedding, recurrent layers and a linear output head.

Shape letters: B batch, T steps, V vocabulary, E embedding width, H hidden width, L layers.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.cell_loop import Cell, CellLoop
from lit_modules.layers.recurrent import GRU, LSTM, RNN
from lit_modules.layers.recurrent_cells import State

STACKS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


class StateCache:
    """The state of a recurrent network between two calls; its size doesn't depend on the text's length.

    Attributes:
        state: Each tensor (L, B, H); `None` before the first token means zeros.
    """

    def __init__(self, state: State | None = None) -> None:
        self.state = state

    def reorder(self, rows: Tensor) -> None:
        """Replace row i by the former row `rows[i]`, as a KV cache does; `rows` are (B',) indices."""
        if self.state is not None:
            self.state = tuple(part[:, rows] for part in self.state)


class RecurrentLM(nn.Module):
    """Logits at each position from the tokens up to and including it.

        tokens (B, T) → one-hot (B, T, V) or embedding (B, T, E) → RNN | GRU | LSTM (B, T, H)
                      → [linear] → logits (B, T, V)

    Without a read-out the hidden state itself is the logits: H must then equal V, and the tanh of an RNN
    bounds each logit to [−1, 1].

    Args:
        vocab_size: V.
        hidden_size: H.
        cell: Kind of recurrent layer.
        num_layers: L.
        embedding_size: E; `None` for one-hot vectors.
        read_out: Whether a linear layer turns hidden states into logits.
        dropout: Probability of dropping an input of a layer or of the read-out, in training.
        loop: Use a Python loop over cells (`CellLoop`) instead of one call of a layer.
        implementation: PyTorch's kernels, or formulas by hand.

    Raises:
        ValueError: Unknown kind of cell; H ≠ V without a read-out.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        cell: Cell = "gru",
        num_layers: int = 1,
        embedding_size: int | None = None,
        read_out: bool = True,
        dropout: float = 0.0,
        loop: bool = False,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("cell", cell, Cell)
        if not read_out and hidden_size != vocab_size:
            raise ValueError(
                f"without a read-out the state is the logits, so its width must be the vocabulary size "
                f"{vocab_size}, not {hidden_size}"
            )
        self.vocab_size = vocab_size
        blocks = building_blocks(implementation)
        self.embedding = None if embedding_size is None else blocks.embedding(vocab_size, embedding_size)
        options: dict[str, Any] = {
            "input_size": vocab_size if embedding_size is None else embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "dropout": dropout if num_layers > 1 else 0.0,  # PyTorch warns about dropout in a single layer
            "implementation": implementation,
        }
        self.recurrent = CellLoop(cell=cell, **options) if loop else STACKS[cell](**options)
        self.dropout = blocks.dropout(dropout)
        self.head = blocks.linear(hidden_size, vocab_size) if read_out else None

    def forward(
        self,
        tokens: Tensor,
        *,
        key_mask: Tensor | None = None,
        cache: list[StateCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Compute the logits of tokens that follow those in the cache; update the cache.

        Args:
            tokens: int64, (B, T).
            key_mask: Boolean, (B, T), True = a real token; rows may be padded left or right and have at least
                one real token. Padding doesn't change the state; its logits are meaningless.
            cache: From `make_cache`; without one the initial state is zero.
            last_only: Return the logits after the last token only.

        Returns:
            Logits, (B, T, V), or (B, 1, V) with `last_only`.

        Raises:
            ValueError: A row without a real token; a state with another number of rows.
        """
        state = None if cache is None else cache[0].state
        if state is not None and state[0].shape[1] != len(tokens):
            raise ValueError(f"{len(tokens)} rows given, but the state has {state[0].shape[1]}")
        if key_mask is None or bool(key_mask.all()):
            hidden, after = self._read(tokens, state, None)  # (B, T, H)
        else:
            # Move real tokens to the front of their rows, and move their outputs back afterwards.
            order = key_mask.int().argsort(dim=1, descending=True, stable=True)  # (B, T)
            hidden, after = self._read(tokens.gather(1, order), state, key_mask.sum(1))
            back = order.argsort(dim=1).unsqueeze(-1).expand_as(hidden)
            hidden = hidden.gather(1, back)
        if cache is not None:
            cache[0].state = after
        if last_only:
            hidden = hidden[:, -1:]
        return hidden if self.head is None else self.head(self.dropout(hidden))

    def make_cache(self, capacity: int | None = None) -> list[StateCache]:
        """Make a cache with a zero state; `capacity` is ignored, because the state has a fixed size."""
        return [StateCache()]

    def _read(self, tokens: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run the recurrent layers: (B, T) tokens → the last layer's (B, T, H), and the final state."""
        if self.embedding is None:
            dtype = next(self.recurrent.parameters()).dtype
            inputs = F.one_hot(tokens, self.vocab_size).to(dtype)  # (B, T, V)
        else:
            inputs = self.embedding(tokens)  # (B, T, E)
        inputs = self.dropout(inputs)
        if isinstance(self.recurrent, CellLoop):
            return self.recurrent(inputs, state, lengths=lengths)
        # RNN and GRU take and return a tensor instead of a tuple.
        before = state[0] if state is not None and len(state) == 1 else state
        hidden, after = self.recurrent(inputs, before, lengths=lengths)
        return hidden, after if isinstance(after, tuple) else (after,)
