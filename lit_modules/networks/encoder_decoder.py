"""The encoder–decoder transformer: a sequence is read, another is written, token after token.

    source ──► embedding + positions ──► Encoder ──► context
                                                        │ keys and values
    target so far ──► embedding + positions ──► Decoder ◄┘ ──► head ──► logits of each next token

Shape letters: B batch, S source tokens, T target tokens, V target vocabulary, W width, L decoder layers,
H heads.
"""

import math

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import AddedPositions, added_positions, embed
from lit_modules.layers.initialisation import OutputInit, draw_weights, matrix_std
from lit_modules.layers.kv_cache import DecoderLayerCache, token_positions
from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.layers.transformer_stack import Decoder, Encoder
from lit_modules.layers.visibility import may_look


class EncoderDecoder(nn.Module):
    """logits = head(decoder(target, encoder(source))), both with embeddings of their own or shared ones.

    Rows are padded behind. Nothing real sees padding: of the source it is masked, and of the
    target it comes after all that is real, so that causality does it and no mask is needed.

    Args:
        options: What the layers of both stacks have in common; rotary positions belong to them.
        encoder_depth: Layers that read.
        decoder_depth: Layers that write.
        source_vocab_size: Tokens that can be read.
        target_vocab_size: V.
        source_length: The longest source that the model is meant for. Learned positions end there.
        target_length: The same of the target.
        positions: What is added to the embeddings. With `sinusoidal` these are multiplied by √W first, as in
            the paper.
        share_embeddings: Source and target have one embedding, of one vocabulary.
        tie_embeddings: `head` and the target's embedding share their weight.
        padding: The token that fills shorter sources up.

    Raises:
        ValueError: a vocabulary or length below 1; embeddings shared by vocabularies of different sizes; see
            `Attention` for the rest.

    Source: Vaswani et al. 2017, "Attention is all you need"; Press & Wolf 2017 (tied embeddings).
    """

    def __init__(
        self,
        options: TransformerOptions,
        *,
        encoder_depth: int,
        decoder_depth: int,
        source_vocab_size: int,
        target_vocab_size: int,
        source_length: int,
        target_length: int,
        positions: AddedPositions = "none",
        share_embeddings: bool = False,
        tie_embeddings: bool = False,
        padding: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"source_vocab_size": source_vocab_size, "target_vocab_size": target_vocab_size}
        for name, value in (sizes | {"source_length": source_length, "target_length": target_length}).items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if share_embeddings and source_vocab_size != target_vocab_size:
            raise ValueError(
                f"vocabularies of {source_vocab_size} and {target_vocab_size} tokens can't share an embedding"
            )
        width = options.width
        self.padding = padding
        self.tie_embeddings = tie_embeddings
        self.source_embedding = nn.Embedding(source_vocab_size, width)
        self.target_embedding = (
            self.source_embedding if share_embeddings else nn.Embedding(target_vocab_size, width)
        )
        self.embedding_scale = math.sqrt(width) if positions == "sinusoidal" else 1.0
        self.source_positions = added_positions(positions, max_length=source_length, width=width)
        self.target_positions = added_positions(positions, max_length=target_length, width=width)
        self.dropout = Dropout(options.dropout)
        self.encoder = Encoder(options, depth=encoder_depth)
        self.decoder = Decoder(options, depth=decoder_depth)
        self.head = nn.Linear(width, target_vocab_size, bias=False)
        if tie_embeddings:
            self.head.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Scores every possible next token after each token of the target.

        Args:
            source: (B, S), padded behind.
            target: (B, T), padded behind.

        Returns:
            (B, T, V).
        """
        context, context_mask = self.encode(source)
        return self.decode(target, context, context_mask)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reads a source once, however often something is written for it.

        Args:
            source: (B, S), padded behind.

        Returns:
            The context (B, S, W), and which of it is real, boolean (B, S); None if all is.
        """
        mask = source != self.padding
        all_real = may_look(mask) and bool(mask.all())
        positions = token_positions(source.shape[1], device=source.device)
        x = embed(
            source,
            positions,
            embedding=self.source_embedding,
            scale=self.embedding_scale,
            added=self.source_positions,
        )
        key_mask = None if all_real else mask
        return self.encoder(self.dropout(x), key_mask=key_mask, positions=positions), key_mask

    def decode(
        self,
        target: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        cache: list[DecoderLayerCache] | None = None,
    ) -> Tensor:
        """Scores every possible next token after each of T tokens of the target.

        Args:
            target: (B, T).
            context: (B, S, W), from `encode`; may be left out once the cache has seen it.
            context_mask: Boolean (B, S), from `encode`.
            cache: From `make_cache`; T is then the number of new tokens.

        Returns:
            (B, T, V).

        Raises:
            ValueError: learned positions beyond the target's length; a cache that is full.
        """
        first = None if cache is None else cache[0].self_attention
        positions = token_positions(target.shape[1], cache=first, device=target.device)
        x = embed(
            target,
            positions,
            embedding=self.target_embedding,
            scale=self.embedding_scale,
            added=self.target_positions,
        )
        x = self.decoder(
            self.dropout(x), context, context_mask=context_mask, positions=positions, cache=cache
        )
        return self.head(x)

    def make_cache(self, capacity: int) -> list[DecoderLayerCache]:
        """One empty cache for each decoder layer, for targets of at most `capacity` tokens."""
        return self.decoder.make_cache(capacity)

    def cross_attention(self, source: Tensor, target: Tensor) -> Tensor:
        """Which source tokens each target token attends, for a look at it; in evaluation mode.

        Args:
            source: (B, S).
            target: (B, T).

        Returns:
            (L, B, H, T, S): each row sums to 1 over the source, and is 0 on padding.
        """
        maps: list[Tensor] = []

        def look(attention: nn.Module, arguments: tuple, options: dict) -> None:
            maps.append(attention.weights(*arguments, key_mask=options["key_mask"]))  # type: ignore[operator]

        hooks = [
            layer.cross_attention.register_forward_pre_hook(look, with_kwargs=True)  # type: ignore[union-attr]
            for layer in self.decoder.layers
        ]
        try:
            self(source, target)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(maps)

    def initialise(
        self,
        *,
        embedding_std: float = 0.02,
        linear_std: float | None = 0.02,
        output_init: OutputInit = "scaled",
    ) -> None:
        """Draws fresh weights as `draw_weights` does, those of the output layer like any matrix."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding_std)
        for stack in (self.encoder, self.decoder):
            draw_weights(stack, depth=len(stack.layers), linear_std=linear_std, output_init=output_init)
        if not self.tie_embeddings:
            nn.init.normal_(self.head.weight, std=matrix_std(self.head, linear_std))
