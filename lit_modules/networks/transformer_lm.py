"""The transformer language model: from tokens to the logits of each next token.

Shape letters: B batch, T tokens, V vocabulary, W width of the model.
"""

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.layers.argument_checks import check_positive
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import added_positions, embed
from lit_modules.layers.initialisation import draw_weights, matrix_std
from lit_modules.layers.kv_cache import KVCache, token_positions
from lit_modules.layers.transformer_stack import Encoder


class TransformerLM(nn.Module):
    """logits = head(trunk(embedding(tokens) [+ positions])): GPT-2, Llama and variants between them.

    Args:
        config: The architecture and the initial weights.
        vocab_size: V.
        context_length: Maximum number of tokens. Learned positions end there.

    Raises:
        ValueError: A vocabulary or context below 1; for the rest see `Attention`.

    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023 (Llama); Press & Wolf 2017 (tied embeddings).
    """

    def __init__(self, config: LanguageModelConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        check_positive(vocab_size=vocab_size, context_length=context_length)
        self.vocab_size = vocab_size
        self.context_length = context_length
        blocks = building_blocks(config.implementation)
        self.embedding = blocks.embedding(vocab_size, config.width)
        self.positions = added_positions(
            config.position,
            max_length=context_length,
            width=config.width,
            implementation=config.implementation,
        )
        self.dropout = Dropout(config.dropout)
        self.trunk = Encoder(config, is_causal=True)
        self.head = blocks.linear(config.width, vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        draw_weights(self, config, kept=(self.head,))
        if not config.tie_embeddings:
            nn.init.normal_(self.head.weight, std=0.0 if config.zero_head else matrix_std(self.head, config))

    def forward(
        self,
        tokens: Tensor,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: list[KVCache] | None = None,
        hidden_states: list[Tensor] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Compute the logits of the next token after each of T tokens.

        Args:
            tokens: Indices, (B, T).
            mask: Boolean, (T, T) or broadcastable to (B, H, T, T), True = may be attended, besides causality.
            key_mask: Boolean, (B, T), True = a real token; rows may be padded left or right.
            positions: (T,) or (B, T); by default real tokens are counted, after those in the cache.
            cache: From `make_cache`; T is then the number of new tokens.
            hidden_states: A list that receives the embeddings and the output of each layer, (B, T, W).
            last_only: Return the logits after the last token only.

        Returns:
            (B, T, V), or (B, 1, V) with `last_only`.

        Raises:
            ValueError: Positions beyond the learned ones; a full cache.
        """
        if positions is None:
            first = None if cache is None else cache[0]
            positions = token_positions(tokens.shape[1], key_mask=key_mask, cache=first, device=tokens.device)
        x = embed(tokens, positions, embedding=self.embedding, added=self.positions)
        x = self.dropout(x)  # (B, T, W)
        x = self.trunk(
            x,
            mask=mask,
            key_mask=key_mask,
            positions=positions,
            cache=cache,
            hidden_states=hidden_states,
        )
        return self.head(x[:, -1:] if last_only else x)

    def make_cache(self, capacity: int) -> list[KVCache]:
        """Make one empty cache for each layer, for rows of at most `capacity` tokens."""
        return self.trunk.make_cache(capacity)
