"""A decoder-only transformer language model: tokens in, logits of each next token out.

Shape letters: B batch, T tokens, V vocabulary, W width of the model.
"""

import math

import torch.nn as nn
from torch import Tensor

from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import AddedPositions, added_positions, embed
from lit_modules.layers.initialisation import OutputInit, draw_weights, matrix_std
from lit_modules.layers.kv_cache import KVCache, token_positions
from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.layers.transformer_stack import Encoder


class TransformerLM(nn.Module):
    """logits = head(trunk(embedding(tokens) [+ positions])): GPT-2, Llama and what lies between.

    Args:
        options: What the layers have in common; rotary positions belong to them.
        depth: Number of layers.
        vocab_size: V.
        context_length: The longest text that the model is meant for. Learned positions end there.
        positions: What is added to the embeddings. With `sinusoidal` the embeddings are multiplied by √W
            first, as in the paper.
        tie_embeddings: `head` and `embedding` share their weight.

    Raises:
        ValueError: a vocabulary or context below 1; see `Attention` for the rest.

    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023 (Llama); Press & Wolf 2017 (tied embeddings).
    """

    def __init__(
        self,
        options: TransformerOptions,
        *,
        depth: int,
        vocab_size: int,
        context_length: int,
        positions: AddedPositions = "none",
        tie_embeddings: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"vocab_size": vocab_size, "context_length": context_length}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.tie_embeddings = tie_embeddings
        self.embedding = nn.Embedding(vocab_size, options.width)
        self.embedding_scale = math.sqrt(options.width) if positions == "sinusoidal" else 1.0
        self.positions = added_positions(positions, max_length=context_length, width=options.width)
        self.dropout = Dropout(options.dropout)
        self.trunk = Encoder(options, depth=depth, is_causal=True)
        self.head = nn.Linear(options.width, vocab_size, bias=False)
        if tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        *,
        key_mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: list[KVCache] | None = None,
        hidden_states: list[Tensor] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Scores every possible next token after each of T tokens.

        Args:
            tokens: (B, T) indices.
            key_mask: Boolean (B, T), True = a real token; rows of a batch may be padded left or right.
            positions: (T,) or (B, T); default: counted without the padding, behind what is in the cache.
            cache: From `make_cache`; T is then the number of new tokens.
            hidden_states: A list to which the embeddings and each layer's output are appended, (B, T, W).
            last_only: Only the logits after the last token, of which generation needs no others.

        Returns:
            (B, T, V), or (B, 1, V) for `last_only`.

        Raises:
            ValueError: learned positions beyond the context length; a cache that is full.
        """
        if positions is None:
            first = None if cache is None else cache[0]
            positions = token_positions(tokens.shape[1], key_mask=key_mask, cache=first, device=tokens.device)
        x = embed(
            tokens, positions, embedding=self.embedding, scale=self.embedding_scale, added=self.positions
        )
        x = self.dropout(x)  # (B, T, W)
        x = self.trunk(x, key_mask=key_mask, positions=positions, cache=cache, hidden_states=hidden_states)
        return self.head(x[:, -1:] if last_only else x)

    def make_cache(self, capacity: int) -> list[KVCache]:
        """One empty cache for each layer, for rows of at most `capacity` tokens."""
        return self.trunk.make_cache(capacity)

    def initialise(
        self,
        *,
        embedding_std: float = 0.02,
        linear_std: float | None = 0.02,
        output_init: OutputInit = "scaled",
        zero_head: bool = False,
    ) -> None:
        """Draws fresh weights as `draw_weights` does, those of the output layer like any matrix.

        Args:
            embedding_std: See `draw_weights`.
            linear_std: See `draw_weights`.
            output_init: See `draw_weights`.
            zero_head: The output layer starts at zero, if it isn't tied.
        """
        draw_weights(
            self,
            depth=len(self.trunk.layers),
            embedding_std=embedding_std,
            linear_std=linear_std,
            output_init=output_init,
            kept=(self.head,),
        )
        if not self.tie_embeddings:
            nn.init.normal_(self.head.weight, std=0.0 if zero_head else matrix_std(self.head, linear_std))
