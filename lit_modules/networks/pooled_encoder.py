"""A transformer encoder that turns a sequence into one vector.

Shape letters: B batch, T tokens, W width of the model.
"""

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import PooledTransformerConfig, Pooling
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.attention import Attention
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.transformer_stack import Encoder
from lit_modules.layers.visibility import check_key_mask


class PooledEncoder(nn.Module):
    """Encode T tokens, then pool them. Padding never changes a result.

        mean        Σ_t m_t h_t / Σ_t m_t     with m = 1 for real tokens, 0 for padding
        cls         h of a learned token in front of the others, which attends to them in every layer
        attention   Σ_t softmax_t(q · k_t / √D) v_t, with a learned query q for each head

    For a sequence without real tokens, `mean` gives zeros, `attention` the output bias, and `cls` the
    encoding of the learned token alone.

    Args:
        config: The architecture and the kind of pooling.

    Raises:
        ValueError: Unknown pooling.

    Source:
        Dosovitskiy et al. 2021, "An image is worth 16×16 words", 3.1 and appendix D.3 (cls, mean);
        Devlin et al. 2019, "BERT" (cls); Lee et al. 2019, "Set transformer", 3.2 (attention with one seed).
    """

    def __init__(self, config: PooledTransformerConfig) -> None:
        super().__init__()
        check_choice("pooling", config.pooling, Pooling)
        self.pooling: Pooling = config.pooling
        self.encoder = Encoder(config)
        # An embedding with one entry, because optimizers treat embeddings and matrices differently.
        embedding = building_blocks(config.implementation).embedding
        self.seed = None if config.pooling == "mean" else embedding(1, config.width)
        self.pool: Attention | None = None
        if config.pooling == "attention":
            self.pool = Attention(
                config.width,
                num_heads=config.num_heads,
                head_dim=config.head_dim,
                context_width=config.width,
                bias=config.bias,
                implementation=config.implementation,
            )

    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """Encode and pool.

        Args:
            x: Embeddings with positions added, (B, T, W).
            key_mask: Boolean, (B, T), True = a real token; rows are padded right.

        Returns:
            (B, W).

        Raises:
            ValueError: A mask of the wrong shape or type.
        """
        if key_mask is not None:
            check_key_mask(key_mask, x.shape[0], x.shape[1])
        if self.pooling == "cls":
            x, key_mask = self._with_seed(x, key_mask)
        positions = torch.arange(x.shape[1], device=x.device)  # of all rows, which are padded right
        hidden = self.encoder(x, key_mask=key_mask, positions=positions)  # (B, [1 +] T, W)
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pool is not None:
            return self.pool(self._seeds(x), hidden, key_mask=key_mask).squeeze(1)
        return masked_mean(hidden, key_mask)

    def _seeds(self, x: Tensor) -> Tensor:
        """Repeat the learned vector for each row: (B, 1, W)."""
        assert self.seed is not None
        return self.seed.weight.to(x.dtype).expand(x.shape[0], 1, -1)

    def _with_seed(self, x: Tensor, key_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Put the learned token in front: return (B, 1 + T, W) and its mask, (B, 1 + T)."""
        x = torch.cat([self._seeds(x), x], dim=1)
        if key_mask is None:
            return x, None
        return x, torch.cat([key_mask.new_ones(len(key_mask), 1), key_mask], dim=1)


def masked_mean(x: Tensor, key_mask: Tensor | None) -> Tensor:
    """Average the real tokens of each row: (B, T, W) → (B, W); zeros for a row without any.

    Args:
        x: Half precision is summed in fp32.
        key_mask: Boolean, (B, T), True = a real token; None: all are real.
    """
    if key_mask is None:
        return x.mean(dim=1)
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.masked_fill(~key_mask.unsqueeze(-1), 0).sum(dim=1, dtype=wide)  # (B, W)
    return (total / key_mask.sum(dim=1, keepdim=True).clamp(min=1)).to(x.dtype)
