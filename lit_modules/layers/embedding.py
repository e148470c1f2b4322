"""What a transformer's first layer sees: the vectors of tokens, and of their places where these are added.

Shape letters: B batch, T tokens, W width of the model.
"""

from typing import Literal

import torch.nn as nn
from torch import Tensor

from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions

AddedPositions = Literal["learned", "sinusoidal", "none"]


def added_positions(
    kind: AddedPositions, *, max_length: int, width: int
) -> LearnedPositions | SinusoidalPositions | None:
    """Builds what makes the vectors that are added to the tokens' own.

    Args:
        kind: `none` where positions are rotary, or where there are none.
        max_length: Of the longest text; learned positions end there.
        width: W.

    Raises:
        ValueError: an unknown kind.
    """
    check_choice("positions", kind, AddedPositions)
    if kind == "learned":
        return LearnedPositions(max_length, width)
    return SinusoidalPositions(width) if kind == "sinusoidal" else None


def embed(
    tokens: Tensor,
    positions: Tensor,
    *,
    embedding: nn.Embedding,
    scale: float = 1.0,
    added: LearnedPositions | SinusoidalPositions | None = None,
) -> Tensor:
    """What the first layer sees, but for dropout.

    Args:
        tokens: (B, T).
        positions: (T,) or (B, T).
        embedding: Of the tokens.
        scale: Of their vectors.
        added: Makes the vectors of positions.

    Returns:
        (B, T, W).
    """
    x = embedding(tokens)
    if scale != 1.0:
        x = x * scale
    if isinstance(added, SinusoidalPositions):
        return x + added(positions, dtype=x.dtype)
    return x if added is None else x + added(positions)
