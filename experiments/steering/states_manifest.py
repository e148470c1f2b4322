"""What a file of hidden states was made of: kept in it, read from it, held against what is wanted."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from lit_modules.generation.hidden_states import ForcedAnswers


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a file of hidden states was made of; two that are equal hold the same numbers, up to rounding.

    Attributes:
        model: Its name, for people.
        model_sha256: Of its weights as they were used, so the precision is in it.
        prompts: The prompt set's name, for people.
        prompts_sha256: Of the token ids of all prompts and answers, in order.
        template: How a prompt was put to the model.
        layers: In the order of the file.
        position: Where an answer's hidden state was taken.
    """

    model: str
    model_sha256: str
    prompts: str
    prompts_sha256: str
    template: str
    layers: tuple[int, ...]
    position: str


def save_with_manifest(path: Path, tensors: dict[str, "Tensor"], manifest: Manifest) -> None:
    """Write a file of hidden states under another name and rename it.

    Raises:
        UserError: It can't be written.
    """
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"manifest": json.dumps(dataclasses.asdict(manifest))})
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """What a file of hidden states was made of.

    Raises:
        UserError: It is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["manifest"])
        return Manifest(**{**content, "layers": tuple(content["layers"])})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no file of hidden states that this command made") from error


def check_manifest(path: Path, wanted: Manifest) -> None:
    """Refuse a file that was made of something else.

    Raises:
        UserError: Says of what, and what to do.
    """
    found = read_manifest(path)
    advice = "remove it, or choose another file"
    if found.model_sha256 != wanted.model_sha256:
        raise UserError(
            f"{path} was made from another model: {found.model} ({found.model_sha256[:12]}), not "
            f"{wanted.model} ({wanted.model_sha256[:12]}); {advice}"
        )
    if found.prompts_sha256 != wanted.prompts_sha256:
        raise UserError(
            f"{path} was made of other prompts or answers: {found.prompts} ({found.prompts_sha256[:12]}), "
            f"not {wanted.prompts} ({wanted.prompts_sha256[:12]}); {advice}"
        )
    for name in ("template", "layers", "position"):
        if getattr(found, name) != getattr(wanted, name):
            raise UserError(
                f"{path} was made with {name} {in_words(getattr(found, name))}, not "
                f"{in_words(getattr(wanted, name))}; {advice}"
            )


def check_split(path: Path, wanted: Sequence[int]) -> None:
    """Refuse a file whose prompts have moved between training, validation and test since it was made.

    Args:
        path: Of a file of hidden states.
        wanted: The split of each prompt, as in the file.

    Raises:
        UserError: Some have moved.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        found = file.get_tensor("split").tolist()
    if found != list(wanted):
        raise UserError(
            f"{path} was made when prompts were in other splits; remove it, or choose another file"
        )


def weights_sha256(network: Any) -> str:
    """Of a network's parameters and buffers by name, in the type that they have."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def examples_sha256(examples: Sequence["ForcedAnswers"]) -> str:
    """Of the token ids of prompts and answers, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{list(example.prompt)} {example.wanted} {example.unwanted}\n".encode())
    return digest.hexdigest()


def in_words(value: object) -> str:
    """One of a manifest's values, for people."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
