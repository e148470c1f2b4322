"""Answer prompts without and with steering, by vectors from files or by those of a learned network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.contrast_vector import SUFFIX, read_vector
from experiments.steering.states_manifest import weights_sha256
from experiments.training.build import restore
from experiments.training.checkpoint_path import open_checkpoint
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate
from lit_modules.generation.hidden_states import ForcedAnswers, read_pairs
from lit_modules.generation.steered import RowSteering, SteeredPositions, check_layer, each_row_steered
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.steering import Steering

Ways = dict[str, list[RowSteering]]
"""How each prompt is steered, by the name of the way to answer."""


def steered_samples(
    model: LoadedModel,
    files: Sequence[str],
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    alphas: Sequence[float] = (1.0,),
) -> dict[str, list[str]]:
    """Generate the answers to all prompts in all ways, in one batch.

    Vectors from files steer all tokens: `unsteered`, `steered`. The network reads the prompts, so its vectors
    steer from the last token of a prompt on: `unsteered`, `mean vector`, `learned`.

    Args:
        model: The model to steer, not laid out for generation.
        files: Files of steering vectors, one for all prompts or one for each; or the checkpoint or run
            directory of one steering network.
        prompts: Token ids; for a network in the template of its training data.
        settings: Sampling settings.
        alphas: Factors of the vectors, one for all prompts or one for each.

    Returns:
        The answer to each prompt, by the name of the way.

    Raises:
        UserError: A file is damaged, or was made on another model.
    """
    alphas = one_for_each(alphas, len(prompts))
    ways: Ways
    positions: SteeredPositions
    if are_vectors(files):
        steered = vector_steering(model, one_for_each(files, len(prompts)), alphas)
        unsteered = [dataclasses.replace(row, factor=0.0) for row in steered]
        ways, positions = {"unsteered": unsteered, "steered": steered}, "both"
    else:
        ways, positions = _network_ways(model, files[0], prompts, alphas), "generated"
    settings = dataclasses.replace(settings, stop_ids=[*settings.stop_ids, *model.stop_ids])
    rows = [row for way in ways.values() for row in way]
    with each_row_steered(model.network, rows, positions=positions) as follow:
        written = generate(
            model.network,
            [*prompts] * len(ways),
            settings,
            vocab_size=model.tokenizer.vocab_size,
            on_read=follow,
        )
    texts = iter([model.tokenizer.decode(tokens) for tokens in written])
    return {name: [next(texts) for _ in way] for name, way in ways.items()}


def are_vectors(files: Sequence[str]) -> bool:
    """Return whether these are files of vectors, and not a steering network.

    Raises:
        UserError: There are several files, and one of them is a network.
    """
    ends = [file.endswith(SUFFIX) for file in files]
    if len(files) > 1 and not all(ends):
        name = files[ends.index(False)]
        raise UserError(f"{name} is not a vector ({SUFFIX}): name one steering network, or only vectors")
    return all(ends)


def one_for_each(values: Sequence[Any], count: int) -> list[Any]:
    """Return one value for each of `count` rows; a single value counts for all of them."""
    return list(values) if len(values) != 1 else list(values) * count


def vector_steering(model: LoadedModel, files: Sequence[str], alphas: Sequence[float]) -> list[RowSteering]:
    """Read the steering of each row.

    Raises:
        UserError: A file is damaged, or was made on another model.
    """
    read = {file: read_vector(file) for file in dict.fromkeys(files)}
    for file, found in read.items():
        origin = found.origin
        check_model(model, file, width=len(found.vector), made_on=origin.model, sha256=origin.model_sha256)
        _check_layer(model, origin.layer)
    return [
        RowSteering(layer=read[file].origin.layer, vector=read[file].vector, factor=alpha)
        for file, alpha in zip(files, alphas, strict=True)
    ]


def _network_ways(
    model: LoadedModel, checkpoint: str, prompts: Sequence[Sequence[int]], alphas: Sequence[float]
) -> Ways:
    """Compute the vectors of a steering network and their mean over the training data."""
    module, source = open_steering(checkpoint)
    (width,) = module.info.input_shape
    check_model(model, checkpoint, width=width, made_on=source["model"], sha256=source["model_sha256"])
    layer = int(source["target_layer"])
    _check_layer(model, layer)
    try:
        examples = [ForcedAnswers(prompt=prompt) for prompt in prompts]
        states, _ = read_pairs(model.network, examples, layers=[int(source["input_layer"])])
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from error
    with torch.inference_mode():
        learned = module(states[:, 0].float().cpu())
    mean = torch.tensor(source["mean"])
    return {
        "unsteered": [RowSteering(layer=layer, vector=mean, factor=0.0) for _ in prompts],
        "mean vector": [RowSteering(layer=layer, vector=mean, factor=alpha) for alpha in alphas],
        "learned": [
            RowSteering(layer=layer, vector=vector, factor=alpha)
            for vector, alpha in zip(learned, alphas, strict=True)
        ],
    }


def check_model(model: LoadedModel, file: str, *, width: int, made_on: str, sha256: str) -> None:
    """Check that a steering vector or network was made on this model.

    Raises:
        UserError: It was not, or the model cannot be steered.
    """
    if not isinstance(model.network, TransformerLM):
        raise UserError(f"{model.name} has no layers that can be steered; expected a transformer")
    own_width = model.network.embedding.embedding_dim
    if width != own_width:
        raise UserError(f"{file} steers a model of width {width}, but {model.name} has {own_width}")
    if sha256 != weights_sha256(model.network):
        raise UserError(
            f"{file} was made on {made_on}, not on {model.name} with these weights; make one on this "
            "model or, if they are the same model, leave out --precision"
        )


def _check_layer(model: LoadedModel, layer: int) -> None:
    try:
        check_layer(model.network, layer)
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from error


def open_steered(name: str, files: Sequence[str], precision: str | None = None) -> LoadedModel:
    """Open the model to steer, by default in the precision that the vector or the network was made in.

    Raises:
        UserError: The model does not exist, or a file holds no steering.
    """
    if are_vectors(files):
        return open_language_model(name, precision or read_vector(files[0]).origin.precision, laid_out=False)
    _, source = open_steering(files[0])
    model = open_language_model(name, precision or "fp32", laid_out=False)
    if precision is None and weights_sha256(model.network) != source["model_sha256"]:
        half = open_language_model(name, "bf16", laid_out=False)
        if weights_sha256(half.network) == source["model_sha256"]:
            return half
    return model


def open_steering(checkpoint: str | Path) -> tuple[Steering, dict[str, Any]]:
    """Load a steering network and the description of its training data.

    Raises:
        UserError: The checkpoint holds no steering network, or one that was trained on synthetic pairs.
    """
    path, saved = open_checkpoint(checkpoint)
    module = restore(saved, path).module
    if not isinstance(module, Steering):
        raise UserError(
            f"{path} is not a steering network: its model is {saved['config']['model']['name']!r}"
        )
    source = saved["info"].get("steering")
    if not source:
        raise UserError(
            f"{path} was not trained on pairs of a language model; extract some with experiments.extract"
        )
    return module, source
