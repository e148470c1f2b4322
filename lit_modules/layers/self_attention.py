"""Self-attention with a single head, written for reading; use `attention.py` in networks.

Shape letters: B batch, T tokens, W width of the model, D width of the head.
"""

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.functional.softmax import softmax
from lit_modules.layers.linear import Linear


class SelfAttention(nn.Module):
    """Self-attention with one head: each token has a query, a key and a value.

        Q = x W_q    K = x W_k    V = x W_v    output = softmax(Q Kᵀ / √D) V

    The scores of a token compare its query with all keys. Their softmax gives the weights of the values. The
    dot product of two independent D-vectors with unit variance has variance D. Division by √D makes it 1,
    where the softmax doesn't saturate.

    Args:
        width: W.
        head_dim: D; W by default.
        is_causal: Whether tokens see only earlier tokens and themselves.

    Source: Vaswani et al. 2017, "Attention is all you need", eq. 1.
    """

    def __init__(self, width: int, *, head_dim: int | None = None, is_causal: bool = False) -> None:
        super().__init__()
        self.head_dim = width if head_dim is None else head_dim
        self.is_causal = is_causal
        self.query = Linear(width, self.head_dim, bias=False)
        self.key = Linear(width, self.head_dim, bias=False)
        self.value = Linear(width, self.head_dim, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, W) to the output (B, T, D) and the attention weights (B, T, T); their rows sum to 1."""
        query, key, value = self.query(x), self.key(x), self.value(x)  # (B, T, D)
        scores = query @ key.transpose(-2, -1) / self.head_dim**0.5  # (B, T, T): query t, key s
        if self.is_causal:
            future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)  # s > t
            scores = scores.masked_fill(future, -torch.inf)
        weights = softmax(scores, dim=-1)
        return weights @ value, weights
