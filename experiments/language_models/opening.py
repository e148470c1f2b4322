"""A language model ready for use: its network, its tokenizer, and what belongs to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments import cli
from experiments.errors import UserError

PRECISIONS = ("fp32", "bf16", "int8")
"""Number formats of a model's weights; int8 has bf16 around them."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What it takes to continue and to score a text.

    Attributes:
        name: What to call it in messages.
        network: From tokens (B, T) to logits (B, T, V), in evaluation mode.
        tokenizer: A tokenizer of `datamodules.tokenizers`, of V tokens at most.
        context_length: The most tokens that the network looks back on; `None` for no end.
        stop_ids: Tokens that end a text.
        chat: From a user's message to the ids of a conversation in which the model has to answer it; `None`
            where the model wasn't trained to converse.
    """

    name: str
    network: Any
    tokenizer: Any
    context_length: int | None
    stop_ids: Sequence[int] = ()
    chat: Callable[[str], list[int]] | None = None


def open_language_model(name: str, precision: str = "fp32", *, laid_out: bool = True) -> LoadedModel:
    """The model that a command line names, on the device that the suite would train on.

    Args:
        name: A checkpoint or run directory, or what `experiments.language_models.pretrained_models` knows.
        precision: One of `PRECISIONS`; `int8` is for transformers.
        laid_out: Lay a transformer out for generating, which is faster; else its layers' hidden states can be
            read and changed.

    Raises:
        UserError: There is no such model.
    """
    from experiments.language_models.pretrained_models import is_pretrained, open_pretrained

    if is_pretrained(name):
        return open_pretrained(name, precision, laid_out=laid_out)
    model = open_trained(name)

    import torch

    from lit_modules.networks.decoding_lm import DecodingLM
    from lit_modules.networks.transformer_lm import TransformerLM

    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model.network.to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    if isinstance(model.network, TransformerLM) and laid_out:
        weights: Any = "int8" if precision == "int8" else "as_they_are"
        return replace(model, network=DecodingLM(model.network, weights=weights))
    if precision == "int8":
        raise UserError(f"{name} is no transformer: its precision may be fp32 or bf16")
    return model


def open_trained(checkpoint: str | Path) -> LoadedModel:
    """A language model of the suite, transformer or recurrent, from its checkpoint alone.

    Args:
        checkpoint: The file, or a run directory, whose best checkpoint is taken.

    Raises:
        UserError: It can't be had, is none of a language model, or its vocabulary isn't its network's.
    """
    path, saved = cli.open_checkpoint(checkpoint)

    from datamodules.info import TextInfo
    from datamodules.tokenizers import tokenizer_from_dict
    from experiments.training import build

    restored = build.restore(saved, path)
    network: Any = getattr(restored.module, "network", None)
    if not isinstance(restored.info, TextInfo) or not hasattr(network, "make_cache"):
        raise UserError(
            f"{path} is no language model: it was trained with the model {restored.experiment.model.name!r} "
            f"on the data {restored.experiment.data.name!r}"
        )
    try:
        tokenizer = tokenizer_from_dict(restored.info.tokenizer)
    except ValueError as error:
        raise UserError(f"the vocabulary in {path} can't be read: {error}") from error
    if tokenizer.vocab_size != network.vocab_size:
        raise UserError(
            f"the vocabulary in {path} doesn't match the checkpoint: {tokenizer.vocab_size} tokens, "
            f"but the network has {network.vocab_size}"
        )
    return LoadedModel(
        name=str(path),
        network=network,
        tokenizer=tokenizer,
        context_length=getattr(network, "context_length", None),
        stop_ids=tuple(tokenizer.special_tokens.values()),
    )
