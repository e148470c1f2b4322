"""Write, read and verify the manifest of a file of hidden states."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.steering_pairs import content_sha256, read_tensors
from experiments.errors import RunError, UserError, replacing, writing
from lit_modules.generation.hidden_states import AnswerPosition, ForcedAnswers

Template = Literal["chat", "plain"]
STATES = "states.safetensors"
"""Name of the file of hidden states that a `steering_extract` task writes."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Origin of a file of hidden states. Files with equal manifests hold equal numbers, up to rounding."""

    model: str  # name of the model, for messages
    model_sha256: str  # digest of the weights in the precision that was used
    prompts: str  # name of the prompt set, for messages
    prompts_sha256: str  # digest of the token ids of all prompts and answers, in order
    template: Template  # template of the prompts, `chat` or `plain`
    layers: tuple[int, ...]  # layers in the order of the file
    position: AnswerPosition  # position of the hidden state of an answer, `last` or `mean`


def save_with_manifest(path: Path, tensors: dict[str, Tensor], manifest: Any) -> None:
    """Write a file with its manifest, a dataclass, and its sha256 under a temporary name and rename it.

    Raises:
        RunError: The file cannot be written.
    """
    text = json.dumps(dataclasses.asdict(manifest))
    metadata = {"manifest": text, "sha256": content_sha256(tensors, text)}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise RunError(f"cannot write {path}: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a file of hidden states.

    Raises:
        UserError: The file is missing or has no manifest.
    """
    try:
        check_ordinary(path)
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["manifest"])
        return Manifest(**{**content, "layers": tuple(content["layers"])})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a file of hidden states from experiments.extract") from error


def check_manifest(path: Path, wanted: Manifest) -> None:
    """Check that a file has the wanted manifest.

    Raises:
        UserError: A value differs.
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
            f"{path} was made from other prompts or answers: {found.prompts} ({found.prompts_sha256[:12]}), "
            f"not {wanted.prompts} ({wanted.prompts_sha256[:12]}); {advice}"
        )
    for name in ("template", "layers", "position"):
        if getattr(found, name) != getattr(wanted, name):
            raise UserError(
                f"{path} was made with {name} {in_words(getattr(found, name))}, not "
                f"{in_words(getattr(wanted, name))}; {advice}"
            )


def check_split(path: Path, wanted: Sequence[int]) -> None:
    """Check that a file is undamaged and that every prompt of it is still in the same split.

    Args:
        path: The file of hidden states.
        wanted: The split code of each prompt, in the order of the file.

    Raises:
        UserError: The file is damaged, or a split has changed.
    """
    try:
        found = read_tensors(path)[0]["split"].tolist()
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    if found != list(wanted):
        raise UserError(
            f"{path} was made with other splits of the prompts; remove it, or choose another file"
        )


def weights_sha256(network: nn.Module) -> str:
    """Compute the digest of a network's parameters and buffers, with their names and types."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def examples_sha256(examples: Sequence[ForcedAnswers]) -> str:
    """Compute the digest of the token ids of prompts and answers, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{list(example.prompt)} {example.wanted} {example.unwanted}\n".encode())
    return digest.hexdigest()


def in_words(value: object) -> str:
    """Format a value of a manifest for messages."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
