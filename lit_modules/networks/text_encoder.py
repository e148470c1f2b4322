"""A transformer encoder that reads a text and tells its class.

Shape letters: B texts, T tokens, V vocabulary, W width of the model, K classes.
"""

import math

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.layers.argument_checks import check_probability
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import AddedPositions, added_positions, embed
from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.networks.pooled_encoder import PooledEncoder, Pooling

PADDING = -1
"""Stands behind a text that is shorter than others of its batch; no token has this id."""


class TextEncoder(nn.Module):
    """logits = head(dropout(pool(encoder(embedding(tokens) [+ positions])))).

    Args:
        options: What the layers have in common; rotary positions belong to them.
        depth: Number of layers.
        vocab_size: V.
        context_length: The longest text that the model is meant for. Learned positions end there.
        num_classes: K.
        positions: What is added to the embeddings. With `sinusoidal` the embeddings are multiplied by √W
            first.
        pooling: How the tokens become one vector.
        token_dropout: Probability that a token is hidden from the whole network in training.
        feature_dropout: Probability that a pooled feature is zeroed in training.

    Raises:
        ValueError: an unknown choice, a rate outside [0, 1).

    Source: Vaswani et al. 2017; Devlin et al. 2019, "BERT". Hidden tokens: Iyyer et al. 2015, "Deep unordered
        composition rivals syntactic methods for text classification", 3.1 (word dropout).
    """

    def __init__(
        self,
        options: TransformerOptions,
        *,
        depth: int,
        vocab_size: int,
        context_length: int,
        num_classes: int,
        positions: AddedPositions = "none",
        pooling: Pooling = "mean",
        token_dropout: float = 0.0,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_probability("token_dropout", token_dropout)
        check_probability("feature_dropout", feature_dropout)
        self.embedding = nn.Embedding(vocab_size, options.width)
        self.embedding_scale = math.sqrt(options.width) if positions == "sinusoidal" else 1.0
        self.positions = added_positions(positions, max_length=context_length, width=options.width)
        self.token_dropout = token_dropout
        self.dropout = Dropout(options.dropout)
        self.trunk = PooledEncoder(options, depth=depth, pooling=pooling)
        self.feature_dropout = Dropout(feature_dropout)
        self.head = nn.Linear(options.width, num_classes)

    def features(self, tokens: Tensor) -> Tensor:
        """One vector of each text: tokens (B, T), padded behind with −1 → (B, W)."""
        key_mask = tokens != PADDING
        if self.training and self.token_dropout:
            key_mask = key_mask & (torch.rand(tokens.shape, device=tokens.device) >= self.token_dropout)
        x = embed(
            tokens.clamp(min=0),
            torch.arange(tokens.shape[1], device=tokens.device),
            embedding=self.embedding,
            scale=self.embedding_scale,
            added=self.positions,
        )
        return self.trunk(self.dropout(x), key_mask=key_mask)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, K) of tokens (B, T), padded behind with −1."""
        return self.head(self.feature_dropout(self.features(tokens)))
