"""Next-token logits of several texts, with a cache between calls.

Shape letters: B rows, T tokens of the longest row, V tokens of the vocabulary.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Rows = list[list[int]]


class Decoding:
    """Computes the logits of the next tokens of several texts and keeps a cache.

    Args:
        network: A `TransformerLM`, a `RecurrentLM` or a module with the same call. Without a
            `context_length` its context is unlimited.
        max_new_tokens: Largest number of tokens that a text gets after it was first read, which limits the
            memory of the cache.
        use_cache: Keep keys and values, or states. The logits are the same without a cache, up to rounding.
    """

    def __init__(self, network: Any, *, max_new_tokens: int, use_cache: bool = True) -> None:
        self.network = network
        self.context_length: int | None = getattr(network, "context_length", None)
        self.max_new_tokens = max_new_tokens
        self.use_cache = use_cache
        self._cache: Any = None
        self._held: Rows = []  # the tokens of each row in the cache; empty if they are not known

    def next_logits(self, rows: Rows, kept: list[int] | None) -> Tensor:
        """Compute the logits of the next token of each text.

        Args:
            rows: B texts of at least one token and at most `context_length` tokens.
            kept: For each text, the index of the text of the previous call that it extends by one token.
                `None` if the texts are not known to extend earlier ones. All tokens are then read again,
                except the beginning of a single text if the cache holds exactly that.

        Returns:
            (B, V).
        """
        device = device_of(self.network)
        # An exception within the network, such as Ctrl-C, leaves half of the layers extended.
        held, self._held = self._held, []
        key_mask = None
        if self._cache is not None and kept is not None:
            if kept != list(range(len(held))):
                for layer in self._cache:
                    layer.reorder(torch.tensor(kept, device=device))
                held = [list(held[index]) for index in kept]
            tokens = torch.tensor([[row[-1]] for row in rows], device=device)  # (B, 1)
        elif len(rows) == len(held) == 1 and rows[0][: len(held[0])] == held[0] != rows[0]:
            tokens = torch.tensor([rows[0][len(held[0]) :]], device=device)
        else:
            held = [[] for _ in rows]
            tokens, key_mask = left_padded(rows, device)
            if self.use_cache:
                capacity = tokens.shape[1] + self.max_new_tokens
                self._cache = self.network.make_cache(min(capacity, self.context_length or capacity))
        logits = self.network(tokens, key_mask=key_mask, cache=self._cache, last_only=True)[:, -1]
        if self.use_cache:
            for old, row in zip(held, rows, strict=True):
                old += row[len(old) :]
            self._held = held
        return logits


def left_padded(rows: Rows, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Put texts into one tensor, padded at the left so that all end in the last column.

    Returns:
        Tokens int64 (B, T), and a boolean mask (B, T) that is false for padding; `None` without padding.
    """
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    if all(len(row) == longest for row in rows):
        return tokens, None
    padding = torch.tensor([longest - len(row) for row in rows], device=device)
    return tokens, torch.arange(longest, device=device) >= padding.unsqueeze(-1)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first weight."""
    return next(chain(network.parameters(), network.buffers())).device
