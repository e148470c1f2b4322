"""Answer prompts without steering, with the mean vector, and with the vectors of a learned network."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.states_manifest import weights_sha256
from experiments.training.build import restore
from experiments.training.checkpoint_path import open_checkpoint
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate
from lit_modules.generation.hidden_states import ForcedAnswers, read_pairs
from lit_modules.generation.steered import SteeringVectors, check_layer, steered
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.steering import Steering

WAYS = ("unsteered", "mean vector", "learned")
"""Names of the three ways to answer."""


def steered_samples(
    model: LoadedModel,
    checkpoint: str | Path,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    alpha: float = 1.0,
) -> dict[str, list[str]]:
    """Generate answers to each prompt in three ways. The vectors depend only on the prompts.

    Args:
        model: The model to steer, not laid out for generation.
        checkpoint: A checkpoint or run directory of a steering network that was trained on hidden states of
            this model.
        prompts: Token ids, in the template of the training data.
        settings: Sampling settings.
        alpha: Factor of the mean vector and of the learned vectors.

    Returns:
        A text for each prompt, for each of `WAYS`.

    Raises:
        UserError: The checkpoint holds no steering network, or was trained on another model.
    """
    module, source = open_steering(checkpoint)
    _check_model(model, module, source, checkpoint)
    layer = int(source["target_layer"])
    try:
        check_layer(model.network, layer)
        examples = [ForcedAnswers(prompt=prompt) for prompt in prompts]
        states, _ = read_pairs(model.network, examples, layers=[int(source["input_layer"])])
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from error
    with torch.inference_mode():
        learned = module(states[:, 0].float().cpu())
    mean = torch.tensor(source["mean"]).expand_as(learned)
    settings = dataclasses.replace(settings, stop_ids=[*settings.stop_ids, *model.stop_ids])
    found: dict[str, list[str]] = {}
    for way, vectors, factor in zip(WAYS, (mean, mean, learned), (0.0, alpha, alpha), strict=True):
        steering = SteeringVectors(layer=layer, vectors=vectors, factor=factor)
        with steered(model.network, steering, positions="generated") as rows:
            written = generate(
                model.network,
                prompts,
                settings,
                vocab_size=model.tokenizer.vocab_size,
                on_read=rows.follow,
            )
        found[way] = [model.tokenizer.decode(tokens) for tokens in written]
    return found


def _check_model(
    model: LoadedModel, module: Steering, source: Mapping[str, Any], checkpoint: str | Path
) -> None:
    """Check that a steering network was trained on hidden states of this model."""
    if not isinstance(model.network, TransformerLM):
        raise UserError(f"{model.name} has no layers that can be steered; expected a transformer")
    width = model.network.embedding.embedding_dim
    if module.info.input_shape != (width,):
        raise UserError(
            f"{checkpoint} steers a model of width {module.info.input_shape[0]}, but {model.name} has {width}"
        )
    if source["model_sha256"] != weights_sha256(model.network):
        raise UserError(
            f"{checkpoint} was trained on {source['model']}, not on {model.name} with these weights; if they "
            "are the same model, leave out --precision"
        )


def open_steered(name: str, checkpoint: str | Path, precision: str | None = None) -> LoadedModel:
    """Open the model to steer, by default in the precision that the steering network was trained on.

    Raises:
        UserError: The model does not exist, or the checkpoint holds no steering network.
    """
    _, source = open_steering(checkpoint)
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
