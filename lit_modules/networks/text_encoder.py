"""A transformer encoder that classifies texts.

Shape letters: B texts, T tokens, V vocabulary, W width of the model, K classes.
"""

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.layers.argument_checks import check_probability
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import added_positions, embed
from lit_modules.layers.initialisation import draw_weights
from lit_modules.networks.pooled_encoder import PooledEncoder

PADDING = -1
"""Padding at the end of the shorter texts of a batch. No token has this id."""


class TextEncoder(nn.Module):
    """logits = head(dropout(pool(encoder(embedding(tokens) [+ positions])))).

    Args:
        config: The architecture and the initial weights.
        vocab_size: V.
        context_length: Maximum number of tokens. Learned positions end there.
        num_classes: K.

    Raises:
        ValueError: An unknown choice, or a dropout rate outside [0, 1).

    Source: Vaswani et al. 2017; Devlin et al. 2019, "BERT". Token dropout: Iyyer et al. 2015, "Deep unordered
        composition rivals syntactic methods for text classification", section 3.1 (word dropout).
    """

    def __init__(
        self, config: TextClassifierConfig, *, vocab_size: int, context_length: int, num_classes: int
    ) -> None:
        super().__init__()
        check_probability("token_dropout", config.token_dropout)
        check_probability("feature_dropout", config.feature_dropout)
        blocks = building_blocks(config.implementation)
        self.embedding = blocks.embedding(vocab_size, config.width)
        self.positions = added_positions(
            config.position,
            max_length=context_length,
            width=config.width,
            implementation=config.implementation,
        )
        self.token_dropout = config.token_dropout
        self.dropout = Dropout(config.dropout)
        self.trunk = PooledEncoder(config)
        self.feature_dropout = Dropout(config.feature_dropout)
        self.head = blocks.linear(config.width, num_classes)
        draw_weights(self, config)

    def features(self, tokens: Tensor) -> Tensor:
        """Encode texts: tokens (B, T), padded right with −1 → (B, W)."""
        key_mask = tokens != PADDING
        if self.training and self.token_dropout:
            key_mask = key_mask & (torch.rand(tokens.shape, device=tokens.device) >= self.token_dropout)
        x = embed(
            tokens.clamp(min=0),
            torch.arange(tokens.shape[1], device=tokens.device),
            embedding=self.embedding,
            added=self.positions,
        )
        return self.trunk(self.dropout(x), key_mask=key_mask)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the logits: tokens (B, T), padded right with −1 → (B, K)."""
        return self.head(self.feature_dropout(self.features(tokens)))
