"""An encoder that makes one vector of a whole sequence.

Shape letters: B batch, T tokens, W width of the model.
"""

from typing import Literal

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.attention import Attention
from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.layers.transformer_stack import Encoder
from lit_modules.layers.visibility import check_key_mask

Pooling = Literal["mean", "cls", "attention"]


class PooledEncoder(nn.Module):
    """Encodes T tokens, then pools them; padding never changes a result.

        mean        Σ_t m_t h_t / Σ_t m_t     over the real tokens, whose m is 1
        cls         h of a learned token, put before the others, which attends them in every layer
        attention   Σ_t softmax_t(q · k_t / √D) v_t, with a learned question q for each head

    A sequence without a real token gives zeros by `mean`, the output bias by `attention`, and by `cls` what
    the learned token makes of itself.

    Args:
        options: What the layers have in common.
        depth: Number of layers.
        pooling: How the tokens become one vector.

    Raises:
        ValueError: an unknown pooling.

    Source:
        Dosovitskiy et al. 2021, "An image is worth 16×16 words", 3.1 and appendix D.3 (cls, mean);
        Devlin et al. 2019, "BERT" (cls); Lee et al. 2019, "Set transformer", 3.2 (attention with one seed).
    """

    def __init__(self, options: TransformerOptions, *, depth: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        check_choice("pooling", pooling, Pooling)
        self.pooling: Pooling = pooling
        self.encoder = Encoder(options, depth=depth)
        # An embedding of one: optimizers then treat it as the token that it is, not as a matrix.
        self.seed = None if pooling == "mean" else nn.Embedding(1, options.width)
        self.pool: Attention | None = None
        if pooling == "attention":
            self.pool = Attention(
                options.width,
                num_heads=options.num_heads,
                head_dim=options.head_dim,
                context_width=options.width,
                bias=options.bias,
                implementation=options.implementation,
            )

    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """Encodes and pools.

        Args:
            x: (B, T, W) embeddings, what says their places included.
            key_mask: Boolean (B, T), True = a real token; the padding is behind them.

        Returns:
            (B, W).

        Raises:
            ValueError: a mask of another shape or type.
        """
        if key_mask is not None:
            check_key_mask(key_mask, x.shape[0], x.shape[1])
        if self.pooling == "cls":
            x, key_mask = self._with_seed(x, key_mask)
        positions = torch.arange(x.shape[1], device=x.device)  # for all rows alike: the padding is behind
        hidden = self.encoder(x, key_mask=key_mask, positions=positions)  # (B, [1 +] T, W)
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pool is not None:
            return self.pool(self._seeds(x), hidden, key_mask=key_mask).squeeze(1)
        return masked_mean(hidden, key_mask)

    def _seeds(self, x: Tensor) -> Tensor:
        """The learned vector, once for each row: (B, 1, W)."""
        assert self.seed is not None
        return self.seed.weight.to(x.dtype).expand(x.shape[0], 1, -1)

    def _with_seed(self, x: Tensor, key_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The learned token before the others: (B, 1 + T, W), and the mask that goes with it."""
        x = torch.cat([self._seeds(x), x], dim=1)
        if key_mask is None:
            return x, None
        return x, torch.cat([key_mask.new_ones(len(key_mask), 1), key_mask], dim=1)


def masked_mean(x: Tensor, key_mask: Tensor | None) -> Tensor:
    """The mean of each row's real tokens: (B, T, W) → (B, W); zeros where there are none.

    Args:
        x: Half precision is summed up in fp32.
        key_mask: Boolean (B, T), True = a real token; None for all.
    """
    if key_mask is None:
        return x.mean(dim=1)
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.masked_fill(~key_mask.unsqueeze(-1), 0).sum(dim=1, dtype=wide)  # (B, W)
    return (total / key_mask.sum(dim=1, keepdim=True).clamp(min=1)).to(x.dtype)
