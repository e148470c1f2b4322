"""The encoder–decoder transformer: encode a source sequence, then decode a target token by token.

    source ──► embedding + positions ──► Encoder ──► context
                                                        │ keys and values
    target so far ──► embedding + positions ──► Decoder ◄┘ ──► head ──► logits of each next token

Shape letters: B batch, S source tokens, T target tokens, V target vocabulary, W width, L decoder layers,
H heads.
"""

from dataclasses import replace

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.layers.argument_checks import check_positive
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.embedding import added_positions, embed
from lit_modules.layers.initialisation import draw_weights, matrix_std
from lit_modules.layers.kv_cache import DecoderLayerCache, token_positions
from lit_modules.layers.transformer_stack import Decoder, Encoder
from lit_modules.layers.visibility import may_look


class EncoderDecoder(nn.Module):
    """logits = head(decoder(target, encoder(source))), with separate or shared embeddings.

    Rows are padded right. Real tokens never attend to padding: a mask hides the padding of the source, and
    causality hides the padding of the target, which follows all real tokens.

    Args:
        config: The architecture and the initial weights.
        source_vocab_size: Number of source tokens.
        target_vocab_size: V.
        source_length: Maximum number of source tokens. Learned positions end there.
        target_length: Maximum number of target tokens. Learned positions end there.
        padding: The padding token.

    Raises:
        ValueError: A vocabulary or length below 1; shared embeddings with vocabularies of different sizes.

    Source: Vaswani et al. 2017, "Attention is all you need"; Press & Wolf 2017 (tied embeddings).
    """

    def __init__(
        self,
        config: Seq2SeqConfig,
        *,
        source_vocab_size: int,
        target_vocab_size: int,
        source_length: int,
        target_length: int,
        padding: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            source_vocab_size=source_vocab_size,
            target_vocab_size=target_vocab_size,
            source_length=source_length,
            target_length=target_length,
        )
        if config.share_embeddings and source_vocab_size != target_vocab_size:
            raise ValueError(
                f"vocabularies of {source_vocab_size} and {target_vocab_size} tokens can't share an embedding"
            )
        width = config.width
        self.padding = padding
        blocks = building_blocks(config.implementation)
        self.source_embedding = blocks.embedding(source_vocab_size, width)
        self.target_embedding = (
            self.source_embedding if config.share_embeddings else blocks.embedding(target_vocab_size, width)
        )
        self.source_positions = added_positions(
            config.position, max_length=source_length, width=width, implementation=config.implementation
        )
        self.target_positions = added_positions(
            config.position, max_length=target_length, width=width, implementation=config.implementation
        )
        self.dropout = Dropout(config.dropout)
        decoder_config = replace(config, depth=config.decoder_depth or config.depth)
        self.encoder = Encoder(config)
        self.decoder = Decoder(decoder_config)
        self.head = blocks.linear(width, target_vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.target_embedding.weight
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=config.embedding_std)
        draw_weights(self.encoder, config)
        draw_weights(self.decoder, decoder_config)
        if not config.tie_embeddings:
            nn.init.normal_(self.head.weight, std=matrix_std(self.head, config))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Compute the logits of the next token after each target token.

        Args:
            source: (B, S), padded right.
            target: (B, T), padded right.

        Returns:
            (B, T, V).
        """
        context, context_mask = self.encode(source)
        return self.decode(target, context, context_mask)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode the source once, for any number of decoding steps.

        Args:
            source: (B, S), padded right.

        Returns:
            The context, (B, S, W), and its mask, boolean, (B, S), True = a real token; None without padding.
        """
        mask = source != self.padding
        all_real = may_look(mask) and bool(mask.all())
        positions = token_positions(source.shape[1], device=source.device)
        x = embed(
            source,
            positions,
            embedding=self.source_embedding,
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
        """Compute the logits of the next token after each target token.

        Args:
            target: (B, T).
            context: (B, S, W), from `encode`; optional once the cache holds it.
            context_mask: Boolean, (B, S), from `encode`.
            cache: From `make_cache`; T is then the number of new tokens.

        Returns:
            (B, T, V).

        Raises:
            ValueError: Positions beyond the learned ones; a full cache.
        """
        first = None if cache is None else cache[0].self_attention
        positions = token_positions(target.shape[1], cache=first, device=target.device)
        x = embed(
            target,
            positions,
            embedding=self.target_embedding,
            added=self.target_positions,
        )
        x = self.decoder(
            self.dropout(x), context, context_mask=context_mask, positions=positions, cache=cache
        )
        return self.head(x)

    def make_cache(self, capacity: int) -> list[DecoderLayerCache]:
        """Make one empty cache for each decoder layer, for targets of at most `capacity` tokens."""
        return self.decoder.make_cache(capacity)

    def cross_attention(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the attention of target tokens (B, T) to source tokens (B, S); call it in evaluation mode.

        Returns:
            (L, B, H, T, S): each row sums to 1 over the source and is 0 on padding.
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
