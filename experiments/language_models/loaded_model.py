"""A language model ready for use: its network, its tokenizer and its limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.language_models.chat import Chat
from experiments.training.machine import default_device

PRECISIONS = ("auto", "fp32", "bf16", "int8")
"""Number formats of a model's weights; `auto` is `fast_precision`. With int8 the other tensors are bf16."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with all that is needed to continue a text and to score it."""

    name: str  # name in messages
    network: Any  # maps tokens (B, T) to logits (B, T, V), in evaluation mode
    tokenizer: Any  # a tokenizer of `datamodules.tokenizers` with at most V tokens
    context_length: int | None  # context length in tokens; None if it is unlimited
    precision: str = "fp32"  # number format of the weights: fp32, bf16 or int8
    stop_ids: Sequence[int] = ()  # tokens that end a text
    chat: Chat | None = None  # format of conversations; None if it has no chat template that is known


def fast_precision(*, int8: bool) -> str:
    """Return the number format that generates fastest on this machine.

    The rule measures nothing: fp32 on devices that don't multiply bf16 fast; int8 on CPUs, because it reads
    half as many bytes as bf16; bf16 on GPUs.

    Args:
        int8: Whether the network can be quantised.
    """
    from lit_modules.functional.precision import multiplies_bf16

    device = default_device()
    if not multiplies_bf16(device):
        return "fp32"
    return "int8" if int8 and device.type == "cpu" else "bf16"
