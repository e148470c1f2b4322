"""The same prompts answered without steering, with the mean vector, and with a learned network's vectors."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments import cli
from experiments.errors import UserError
from experiments.language_models.opening import LoadedModel, open_language_model
from experiments.steering.states_manifest import weights_sha256
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate
from lit_modules.generation.hidden_states import ForcedAnswers, read_pairs
from lit_modules.generation.steered import check_layer, steered
from lit_modules.networks.transformer_lm import TransformerLM

WAYS = ("unsteered", "mean vector", "learned")


def steered_samples(
    model: LoadedModel,
    checkpoint: str | Path,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    alpha: float = 1.0,
) -> dict[str, list[str]]:
    """Answers to each prompt, three ways; the vectors are computed once, from the prompts alone.

    Args:
        model: Opened with its layers, not laid out for generating.
        checkpoint: Of a steering network that learned from this model's hidden states, or its run directory.
        prompts: Token ids, as the network's training put them to the model.
        settings: How to choose tokens.
        alpha: Factor of both kinds of vectors.

    Returns:
        By way, a text for each prompt.

    Raises:
        UserError: The checkpoint is none of a steering network, learned from pairs of no model or of another
            one, or doesn't fit this one.
    """
    module, source = open_steering(checkpoint)
    if not isinstance(model.network, TransformerLM):
        raise UserError(f"{model.name} has no layers that could be steered; expected a transformer")
    width = model.network.embedding.embedding_dim
    if module.info.input_shape != (width,):
        raise UserError(
            f"{checkpoint} steers a width of {module.info.input_shape[0]}, and {model.name} has {width}"
        )
    if source["model_sha256"] != weights_sha256(model.network):
        raise UserError(
            f"{checkpoint} learned from {source['model']}, not from {model.name} with these weights; if they "
            "are the same model, leave out --precision"
        )
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
        with steered(
            model.network, layer=layer, vectors=vectors, alpha=factor, positions="generated"
        ) as rows:
            written = generate(
                model.network,
                prompts,
                settings,
                vocab_size=model.tokenizer.vocab_size,
                on_read=rows.follow,
            )
        found[way] = [model.tokenizer.decode(tokens) for tokens in written]
    return found


def open_steered(name: str, checkpoint: str | Path, precision: str | None = None) -> LoadedModel:
    """The model to be steered, in the precision asked for, or else in that which the network learned from.

    Raises:
        UserError: There is no such model, or the checkpoint is none of a steering network.
    """
    _, source = open_steering(checkpoint)
    model = open_language_model(name, precision or "fp32", laid_out=False)
    if precision is None and weights_sha256(model.network) != source["model_sha256"]:
        half = open_language_model(name, "bf16", laid_out=False)
        if weights_sha256(half.network) == source["model_sha256"]:
            return half
    return model


def open_steering(checkpoint: str | Path) -> tuple[Any, dict[str, Any]]:
    """A steering network, and what it learned from.

    Raises:
        UserError: The checkpoint is none of a steering network, or of one that learned from no model.
    """
    path, saved = cli.open_checkpoint(checkpoint)

    from experiments.training.build import restore
    from lit_modules.steering import Steering

    module = restore(saved, path).module
    if not isinstance(module, Steering):
        raise UserError(f"{path} is no steering network: its model is {saved['config']['model']['name']!r}")
    source = saved["info"].get("steering")
    if not source:
        raise UserError(
            f"{path} learned from pairs of no language model; extract some with experiments.extract"
        )
    return module, source
