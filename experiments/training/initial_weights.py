"""Start a run from `model.init_from`, a checkpoint of the suite or a pre-trained language model.

The file gives the weights, the architecture of the network, the vocabulary of the data and the format of
conversations. Everything else, such as dropout and the optimizer, comes from the config. The run saves the
architecture and the format in its own config, so it does not need the file again after its start.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.configs.chat_corpus import ChatConfig
from datamodules.text.chat_formats import FORMATS
from experiments.config import registry
from experiments.config.interpolation import literal
from experiments.config.root import Config, Section
from experiments.config.schema import build
from experiments.config.sources import Layer
from experiments.errors import UserError
from experiments.language_models.pretrained_models import ASSETS, is_pretrained, read_model
from experiments.training import checkpoint
from experiments.training.checkpoint_path import find_checkpoint
from experiments.training.vocabulary import check_vocabulary
from lit_modules.configs.transformer import TransformerConfig

_NOT_ARCHITECTURE = (
    *("init_from", "implementation", "dropout", "hidden_dropout", "attention_dropout"),
    *("token_dropout", "feature_dropout", "embedding_std", "linear_std", "output_init"),
    *("channels_last", "beam_size", "length_penalty"),
)
"""Settings of a transformer that come from the config, not from the initial weights."""
_BY_ROW = ("network.embedding.weight", "network.head.weight", "network.positions.table.weight")
"""Tensors with one row per token or position; a model with fewer tokens or positions uses the first rows."""


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """The content of the file that `model.init_from` names."""

    path: Path
    model: str  # the name of the model that the weights belong to
    weights: Mapping[str, Tensor]  # by their names in the LightningModule
    settings: Mapping[str, Any]  # of the model's config
    tokenizer: Mapping[str, Any] = field(default_factory=dict)  # as plain data; empty for a model without
    context_length: int | None = None  # largest number of tokens, for a pre-trained model
    chat_template: str | None = None  # the format of its conversations, if it is known
    saved: Mapping[str, Any] | None = None  # the whole checkpoint of the suite


def init_from(experiment: Config) -> str | None:
    """Return the setting `model.init_from`; None if it is not set or the model does not have it."""
    return getattr(experiment.model.config, "init_from", None)


def named_files(experiment: Config) -> dict[str, str]:
    """Return what `model.init_from` and `objective.teacher` name, a checkpoint or a stage, by these keys."""
    objective = None if experiment.objective is None else experiment.objective.config
    teacher = getattr(objective, "teacher", None)
    found = {"model.init_from": init_from(experiment), "objective.teacher": teacher}
    return {key: name for key, name in found.items() if name is not None}


def check_named(experiment: Config, stages: Collection[str] = ()) -> None:
    """Check that the files that a config names are there, without reading or downloading them.

    Raises:
        UserError: One is missing, and is no earlier stage.
    """
    for key, name in named_files(experiment).items():
        if name in stages:
            continue
        if key != "model.init_from":
            find_checkpoint(name)
        elif not is_pretrained(name):
            find_checkpoint(name, names=tuple(ASSETS))


def read(name: str, experiment: Config) -> InitialWeights:
    """Read the file `name`, from which a run starts.

    Raises:
        UserError: The file is missing, damaged or of another kind of model.
    """
    if is_pretrained(name):
        return _pretrained(name, experiment)
    path = find_checkpoint(name, names=tuple(ASSETS))
    saved = checkpoint.load(path)
    settings = dict(saved["config"].get("model") or {})
    if saved["config"].get("adapter"):
        raise UserError(
            f"model.init_from={name} holds only an adapter of {settings.get('init_from')}; name that model"
        )
    return InitialWeights(
        path=path,
        model=str(settings.pop("name", None)),
        weights=saved["state_dict"],
        settings=settings,
        tokenizer=saved["info"].get("tokenizer") or {},
        chat_template=saved["info"].get("chat_template") or None,
        saved=saved,
    )


def _pretrained(name: str, experiment: Config) -> InitialWeights:
    if experiment.model.name != "language_model":
        raise UserError(
            f"model.init_from={name} is a language model, but model.name is {experiment.model.name}; "
            "only language_model starts from a pre-trained model"
        )
    root = getattr(experiment.data.config, "root", "data")
    path, pretrained, tokenizer, template = read_model(name, root=root)
    return InitialWeights(
        path=path,
        model="language_model",
        weights={f"network.{key}": tensor for key, tensor in pretrained.state_dict.items()},
        settings=dataclasses.asdict(pretrained.config),
        tokenizer=tokenizer.to_dict(),
        context_length=pretrained.context_length,
        chat_template=template,
    )


def architecture(model: str) -> set[str]:
    """Return the settings of a transformer that come from its initial weights; none for another model."""
    schema = registry.schema("model", model)
    if not issubclass(schema, TransformerConfig):
        return set()
    return {field.name for field in dataclasses.fields(schema)} - set(_NOT_ARCHITECTURE)


def completed(experiment: Config, start: InitialWeights) -> Config:
    """Write what the initial weights fix into a config: the architecture and the format of conversations.

    Raises:
        UserError: The data has longer windows than a pre-trained model can read, or it has conversations and
            no format of them is known.
    """
    longest, asked = start.context_length, getattr(experiment.data.config, "context_length", 0)
    if longest is not None and asked > longest:
        raise UserError(
            f"data.context_length = {asked}: {init_from(experiment)} reads at most {longest} tokens; lower it"
        )
    if needs_chat_template(experiment) and start.chat_template not in FORMATS:
        found = "no chat template, or an unknown one"
        if start.chat_template is not None:
            found = f"the chat template of {start.chat_template}, which isn't implemented"
        raise UserError(
            f"data.template: {init_from(experiment)} has {found}; choose one of {', '.join(FORMATS)}"
        )
    experiment = with_chat_template(experiment, start.chat_template)
    return with_architecture_of(experiment, {"name": start.model, **start.settings})


def needs_chat_template(experiment: Config) -> bool:
    """Return whether a config leaves the format of its conversations to the initial weights."""
    data = experiment.data.config
    return isinstance(data, ChatConfig) and data.template is None


def with_chat_template(experiment: Config, template: str | None) -> Config:
    """Write the format of conversations into a config that leaves it open."""
    if not needs_chat_template(experiment):
        return experiment
    data = Section(experiment.data.name, dataclasses.replace(experiment.data.config, template=template))
    return dataclasses.replace(
        experiment, data=data, plain={**experiment.plain, "data": literal(data.to_plain())}
    )


def with_architecture_of(experiment: Config, section: Mapping[str, Any]) -> Config:
    """Replace the architecture in a config by that of another config's section `model`.

    Nothing changes if the section has another name, or if the model is not a transformer.
    """
    name, config = experiment.model.name, experiment.model.config
    if section.get("name") != name:
        return experiment
    chosen = {key: value for key, value in section.items() if key in architecture(name)}
    values = {**dataclasses.asdict(config), **chosen}
    model = Section(name, build(registry.schema("model", name), values, "model", Layer()))
    return dataclasses.replace(
        experiment, model=model, plain={**experiment.plain, "model": literal(model.to_plain())}
    )


def initialise(module: Any, start: InitialWeights, *, whole: bool = False) -> str:
    """Copy the tensors that have the same name and shape into a new model.

    Args:
        module: The new model.
        start: What it starts from.
        whole: Whether every tensor must be copied.

    Returns:
        A line that says how many tensors were copied and which ones are new.

    Raises:
        UserError: No tensor fits, one is missing although `whole` is true, or the vocabularies differ.
    """
    if start.saved is not None:
        check_vocabulary(start.saved, module.info, start.path)
    own = module.state_dict()
    found = {name: _rows(name, tensor, own) for name, tensor in start.weights.items()}
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise UserError(f"model.init_from={start.path}: none of its {len(found)} tensors fits the model")
    fresh = sorted(own.keys() - fitting.keys())
    if fresh and whole:
        raise UserError(
            f"adapter: {start.path} has no fitting {fresh[0]}, and an adapter trains no new weights"
        )
    module.load_state_dict(fitting, strict=False)
    rest = f"; new: {', '.join(fresh[:5])}{' …' if len(fresh) > 5 else ''}" if fresh else ""
    return f"initialised {len(fitting)} of {len(own)} tensors from {start.path}{rest}"


def _rows(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    return tensor[: len(own[name])] if name in _BY_ROW and name in own else tensor
