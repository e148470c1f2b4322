"""A steering vector from contrasting sentences: make, save and read it.

Shape letter: W width of the model.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from datamodules.steering_pairs import read_tensors
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.sample.prompt_encoding import encode_start
from experiments.steering.states_manifest import save_with_manifest, weights_sha256
from lit_modules.generation.hidden_states import ForcedAnswers, read_pairs

SUFFIX = ".safetensors"
"""End of the name of a file with a steering vector."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a steering vector was made."""

    model: str  # name of the model, for messages
    model_sha256: str  # digest of the weights in this precision
    precision: str  # number format of the weights, fp32 or bf16
    layer: int  # index of the layer whose output is read and changed
    plus: tuple[str, ...]  # sentences with the wanted behaviour
    minus: tuple[str, ...]  # sentences without it

    def __post_init__(self) -> None:
        """Check the values, because a file may hold anything.

        Raises:
            TypeError: A value has the wrong type, or the precision is unknown.
        """
        texts = (self.model, self.model_sha256, *self.plus, *self.minus)
        if type(self.layer) is not int or not all(isinstance(text, str) for text in texts):
            raise TypeError("a value has the wrong type")
        if self.precision not in ("fp32", "bf16"):
            raise TypeError(f"the precision is {self.precision!r}")


@dataclass(frozen=True, kw_only=True)
class ContrastVector:
    """A steering vector and its origin."""

    vector: Tensor  # float32 (W,)
    origin: Origin


def make_vector(
    model: LoadedModel, *, plus: Sequence[str], minus: Sequence[str], layer: int
) -> tuple[ContrastVector, float]:
    """Compute the mean hidden state of some sentences minus that of others.

    A sentence is read as an answer of the model. Its hidden state is the mean over its tokens.

    Args:
        model: The model; its network is a `TransformerLM` in evaluation mode.
        plus: Sentences with the wanted behaviour.
        minus: Sentences without it.
        layer: Index of the layer; the hidden state of a layer is its output.

    Returns:
        The vector, and the norm of the hidden state before a sentence, for comparison.

    Raises:
        UserError: There is no such layer, a sentence cannot be read, or both sides are the same.

    Source: Rimsky et al. 2024, "Steering Llama 2 via Contrastive Activation Addition", section 3.
    """
    chat = model.chat
    start = encode_start(model) if chat is None else [*chat.opening(), *chat.answer_start()]
    try:
        example = ForcedAnswers(
            prompt=start,
            wanted=[model.tokenizer.encode_after(start, text) for text in plus],
            unwanted=[model.tokenizer.encode_after(start, text) for text in minus],
        )
        states, vectors = read_pairs(model.network, [example], layers=[layer], position="mean")
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from error
    vector, state_norm = vectors[0, 0].float().cpu(), float(states[0, 0].float().norm())
    if vector.norm() <= 1e-5 * state_norm:  # zero up to rounding
        raise UserError("the vector is zero: --plus and --minus have the same sentences")
    origin = Origin(
        model=model.name,
        model_sha256=weights_sha256(model.network),
        precision=model.precision,
        layer=layer,
        plus=tuple(plus),
        minus=tuple(minus),
    )
    return ContrastVector(vector=vector, origin=origin), state_norm


def save_vector(path: Path, made: ContrastVector) -> None:
    """Write a vector: a safetensors file with the tensor `vector` and the origin as metadata.

    Raises:
        RunError: The file cannot be written.
    """
    save_with_manifest(path, {"vector": made.vector}, made.origin)


def read_vector(path: str | Path) -> ContrastVector:
    """Read the file of a vector.

    Raises:
        UserError: The file is missing, damaged, or holds something else.
    """
    names = [field.name for field in dataclasses.fields(Origin)]
    try:
        tensors, manifest = read_tensors(Path(path), names)
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        values = {name: manifest[name] for name in names}
        values |= {name: tuple(values[name]) for name in ("plus", "minus")}
        found = ContrastVector(vector=tensors["vector"].float(), origin=Origin(**values))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a steering vector; make one with experiments.steering vector"
        ) from error
    if found.vector.ndim != 1 or not found.vector.isfinite().all():
        shape = " × ".join(map(str, found.vector.shape))
        raise UserError(f"{path} has a vector of shape {shape}; expected one row of finite numbers")
    return found
