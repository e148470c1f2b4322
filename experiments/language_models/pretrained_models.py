"""Open pre-trained language models: SmolLM2, a folder in the Hugging Face format, or a GGUF file."""

import json
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.language_models.chat import chat_of
from experiments.language_models.loaded_model import LoadedModel, fast_precision
from experiments.training.machine import default_device

ASSETS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf"}
"""Models that are downloaded when needed, and the file of each."""
_END_NAMES = ("<|endoftext|>", "<|im_end|>")
"""Special tokens that end a text, if the vocabulary has them."""


def is_pretrained(name: str) -> bool:
    """Return whether a name means a model that was not trained by the suite."""
    path = Path(name)
    return name in ASSETS or path.suffix == ".gguf" or (path / "config.json").is_file()


def open_pretrained(
    name: str, precision: str = "fp32", *, root: Path | str = "data", laid_out: bool = True
) -> LoadedModel:
    """Open a pre-trained model on the device that the suite would train on.

    The name is `smollm2`, a folder with config.json and safetensors files, or a GGUF file. A model
    that is not `laid_out` for fast generation is a `TransformerLM`.

    Raises:
        UserError: The files are missing or damaged, or the model needs a feature that is not implemented.
    """
    _, pretrained, tokenizer, template = read_model(name, root=root)

    import torch

    from lit_modules.networks.decoding_lm import DecodingLM
    from lit_modules.pretrained.readers import build_network

    if precision == "auto":
        precision = fast_precision(int8=laid_out)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network: Any = build_network(pretrained, dtype=dtype).to(default_device())
    if laid_out:
        network = DecodingLM(network, weights="int8" if precision == "int8" else "as_they_are")
    ends = {tokenizer.special_tokens[end] for end in _END_NAMES if end in tokenizer.special_tokens}
    chat = chat_of(template, tokenizer)
    if chat is not None:
        ends.add(chat.answer_end()[0])
    return LoadedModel(
        name=name,
        network=network,
        tokenizer=tokenizer,
        context_length=pretrained.context_length,
        precision=precision,
        stop_ids=tuple(sorted(ends.union(pretrained.end_ids))),
        chat=chat,
    )


def read_model(name: str, *, root: Path | str = "data") -> tuple[Path, Any, Any, str | None]:
    """Read the files of a pre-trained model, after downloading them if needed.

    Returns:
        The path; the `Pretrained` model of `lit_modules`; its tokenizer; what
        `recognise` finds in its chat template.

    Raises:
        UserError: The files are missing or damaged, or the model needs a feature that is not implemented.
    """
    path = find_file(name, root=root)

    from datamodules.assets.ordinary_files import check_ordinary
    from datamodules.text.chat_templates import recognise
    from lit_modules.pretrained.readers import read_pretrained

    try:
        check_ordinary(*_files(path))
        pretrained = read_pretrained(path)
        tokenizer, template = _vocabulary(path, pretrained.tokenizer)
    except ValueError as error:
        raise UserError(str(error)) from error
    if tokenizer.vocab_size > pretrained.vocab_size:
        raise UserError(
            f"the vocabulary of {path} does not match its network: {tokenizer.vocab_size} tokens, "
            f"but the network has {pretrained.vocab_size}"
        )
    return path, pretrained, tokenizer, recognise(template)


def find_file(name: str, *, root: Path | str = "data") -> Path:
    """Return the file or folder of a pre-trained model, after downloading it if needed."""
    if name not in ASSETS:
        return Path(name)
    from datamodules.assets.fetch import fetch

    return fetch(name, root) / ASSETS[name]


def _files(path: Path) -> list[Path]:
    """Return the files that a model may have: its weights, settings and vocabulary."""
    if not path.is_dir():
        return [path]
    weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
    settings = [path / f"{name}.json" for name in ("config", "generation_config", "tokenizer_config")]
    return [*weights, *settings, *(path / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))]


def _vocabulary(path: Path, entries: dict[str, Any]) -> tuple[Any, Any]:
    """Read the tokenizer of a model, and its chat template (None if it has none)."""
    from datamodules.tokenizers import read_gpt2_files, read_tokenizer_json, tokenizer_of_gguf

    if path.is_file():
        try:
            return tokenizer_of_gguf(entries), entries.get("chat_template")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if (path / "tokenizer.json").is_file():
        return read_tokenizer_json(path / "tokenizer.json"), _template(path)
    if (path / "vocab.json").is_file():
        return read_gpt2_files(path), _template(path)
    raise ValueError(f"{path} has no tokenizer.json, and no vocab.json and merges.txt")


def _template(folder: Path) -> object:
    """Read a chat template; None if it cannot be read, because the model can still continue texts."""
    try:
        if (folder / "chat_template.jinja").is_file():
            return (folder / "chat_template.jinja").read_text(encoding="utf-8-sig")
        return json.loads((folder / "tokenizer_config.json").read_bytes())["chat_template"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
