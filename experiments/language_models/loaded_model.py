"""A language model ready for use: its network, its tokenizer and its limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("fp32", "bf16", "int8")
"""Number formats of a model's weights. With int8 the other tensors are bf16."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with all that is needed to continue a text and to score it."""

    name: str  # name in messages
    network: Any  # maps tokens (B, T) to logits (B, T, V), in evaluation mode
    tokenizer: Any  # a tokenizer of `datamodules.tokenizers` with at most V tokens
    context_length: int | None  # context length in tokens; None if it is unlimited
    stop_ids: Sequence[int] = ()  # tokens that end a text
    chat: Callable[[str], list[int]] | None = None
    """Maps a user's message to the ids of a conversation in which the model answers next; None if the model
    was not trained to chat."""
