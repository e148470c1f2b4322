"""The input of a transformer's first layer: embeddings of tokens plus positions.

Shape letters: B batch, T tokens, W width of the model.
"""

import math

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import AttentionImplementation, Position
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions


def added_positions(
    position: Position,
    *,
    max_length: int,
    width: int,
    implementation: AttentionImplementation = "fused",
) -> LearnedPositions | SinusoidalPositions | None:
    """Build the module that maps positions to vectors for addition to the embeddings.

    Args:
        position: Kind of position encoding. `rotary` and `none` add nothing.
        max_length: Number of learned positions.
        width: W.
        implementation: See `building_blocks`.

    Returns:
        The module, or None.

    Raises:
        ValueError: Unknown kind.
    """
    check_choice("position", position, Position)
    if position == "learned":
        return LearnedPositions(max_length, width, implementation=implementation)
    return SinusoidalPositions(width) if position == "sinusoidal" else None


def embed(
    tokens: Tensor,
    positions: Tensor,
    *,
    embedding: nn.Embedding,
    added: LearnedPositions | SinusoidalPositions | None = None,
) -> Tensor:
    """Embed tokens and add their positions.

    Embeddings are multiplied by √W before sinusoidal positions are added (Vaswani et al. 2017, section 3.4).

    Args:
        tokens: (B, T).
        positions: (T,) or (B, T).
        embedding: Embedding of the tokens.
        added: From `added_positions`.

    Returns:
        (B, T, W).
    """
    x = embedding(tokens)
    if isinstance(added, SinusoidalPositions):
        return x * math.sqrt(embedding.embedding_dim) + added(positions, dtype=x.dtype)
    return x if added is None else x + added(positions)
