"""Open a language model by name: a checkpoint of the suite or a pre-trained model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.language_models.chat import chat_of
from experiments.language_models.loaded_model import LoadedModel, fast_precision
from experiments.language_models.pretrained_models import ASSETS, find_file, is_pretrained, open_pretrained
from experiments.training.checkpoint_path import find_checkpoint, open_checkpoint
from experiments.training.machine import default_device


def open_language_model(name: str, precision: str = "fp32", *, laid_out: bool = True) -> LoadedModel:
    """Open the model that a command line names, on the device that the suite would train on.

    Args:
        name: A checkpoint, a run directory, a model that `is_pretrained`, or the folder of an adapter.
        precision: One of `PRECISIONS`; `int8` is for transformers that are laid out.
        laid_out: Lay a transformer out for fast generation. Otherwise, the hidden states of its layers can be
            read and changed.

    Raises:
        UserError: There is no such model.
    """
    adapted = (Path(name) / "adapter_config.json").is_file()
    if is_pretrained(name) and not adapted:
        return open_pretrained(name, precision, laid_out=laid_out)
    model = open_adapted(Path(name)) if adapted else open_trained(name)

    import torch

    from lit_modules.networks.decoding_lm import DecodingLM
    from lit_modules.networks.transformer_lm import TransformerLM

    fast = isinstance(model.network, TransformerLM) and laid_out
    if precision == "auto":
        precision = fast_precision(int8=fast)
    model.network.to(default_device(), torch.bfloat16 if precision == "bf16" else torch.float32)
    model = replace(model, precision=precision)
    if fast:
        weights: Any = "int8" if precision == "int8" else "as_they_are"
        return replace(model, network=DecodingLM(model.network, weights=weights))
    if precision == "int8":
        raise UserError(f"{name} is not a transformer: its precision can be fp32 or bf16")
    return model


def open_adapted(folder: Path) -> LoadedModel:
    """Open the frozen model that an adapter names, and add the adapter's updates to it.

    Raises:
        UserError: The adapter is damaged or not supported, or its model is missing or has other weights.
    """
    from lit_modules.pretrained.peft_format import add_adapter, read_adapter

    try:
        adapter = read_adapter(folder)
    except ValueError as error:
        raise UserError(str(error)) from error

    from experiments.training.adapters import check_base

    base, pretrained = adapter.base, is_pretrained(adapter.base)
    if not pretrained and not Path(base).exists():
        raise UserError(
            f"{folder}: its model {base} is not here; set base_model_name_or_path in adapter_config.json to "
            "smollm2, the folder of that model, or a checkpoint"
        )
    check_base(find_file(base) if pretrained else find_checkpoint(base), adapter.base_sha256)
    model = open_pretrained(base, laid_out=False) if pretrained else open_trained(base)
    try:
        add_adapter(model.network, adapter)
    except ValueError as error:
        raise UserError(str(error)) from error
    return replace(model, name=str(folder), network=model.network.eval())


def open_trained(checkpoint: str | Path) -> LoadedModel:
    """Open a language model of the suite, transformer or recurrent, from a checkpoint or a run directory.

    Raises:
        UserError: The file cannot be loaded, is not a language model, or its vocabulary does not match its
            network.
    """
    path, saved = open_checkpoint(checkpoint, names=tuple(ASSETS))

    from datamodules.info import TextInfo
    from datamodules.tokenizers import tokenizer_from_dict
    from experiments.training import build

    restored = build.restore(saved, path)
    network: Any = getattr(restored.module, "network", None)
    if not isinstance(restored.info, TextInfo) or not hasattr(network, "make_cache"):
        raise UserError(
            f"{path} is not a language model: it was trained with the model "
            f"{restored.experiment.model.name!r} on the data {restored.experiment.data.name!r}"
        )
    info = restored.info
    try:
        tokenizer = tokenizer_from_dict(info.tokenizer)
    except ValueError as error:
        raise UserError(f"cannot read the vocabulary in {path}: {error}") from error
    if tokenizer.vocab_size != network.vocab_size:
        raise UserError(
            f"the vocabulary in {path} does not match the network: {tokenizer.vocab_size} tokens, "
            f"but the network has {network.vocab_size}"
        )
    return LoadedModel(
        name=str(path),
        network=network,
        tokenizer=tokenizer,
        context_length=getattr(network, "context_length", None),
        stop_ids=(*tokenizer.special_tokens.values(), *((info.answer_end,) if info.answer_length else ())),
        chat=chat_of(info.chat_template, tokenizer),
    )
