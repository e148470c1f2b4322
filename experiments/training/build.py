"""Build data and model from a checked config, or the model from a checkpoint alone."""

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

from datamodules.info import DataInfo
from experiments.config import own_code, registry
from experiments.config.check import check_config
from experiments.config.root import Config, Section
from experiments.config.signature import arguments
from experiments.config.sources import merge, read_mapping, read_override
from experiments.console import say
from experiments.errors import UserError
from experiments.training import adapters, own_optim

BASES = {
    "callback": "lightning.pytorch.callbacks:Callback",
    "logger": "lightning.pytorch.loggers:Logger",
    "metric": "torchmetrics:Metric",
}
"""The class of what users register, by its kind."""


@dataclass(frozen=True)
class Restored:
    """A model rebuilt from its checkpoint."""

    experiment: Config  # the config that it was trained with, with any overrides applied
    module: Any  # the LightningModule with the checkpoint's weights
    info: Any  # the description of the data it was trained on


def build_data(experiment: Config, tokenizer: Mapping[str, Any] | None = None) -> Any:
    """Build the datamodule, download its data and set it up, so that its `info` is known.

    A plain LightningDataModule without `info` gets an empty one; the Trainer sets it up. `tokenizer`, as
    plain data, replaces the one that the config describes, if the data is text.
    """
    with user_mistakes("data"):
        datamodule = create("data", experiment.data, seed=experiment.seed)
        if not hasattr(type(datamodule), "info"):
            datamodule.info = DataInfo()
            return datamodule
        if tokenizer and hasattr(experiment.data.config, "tokenizer"):
            from datamodules.tokenizers import tokenizer_from_dict  # slow to import, and rarely needed

            datamodule.given_tokenizer = tokenizer_from_dict(tokenizer)
        datamodule.prepare_data()
        datamodule.setup("fit")
    for note in getattr(datamodule, "notes", ()):
        say(note)
    return datamodule


def build_model(experiment: Config, info: Any) -> Any:
    """Build the LightningModule with its objective, metrics and the configs of optimizer and schedule."""
    parts: dict[str, Any] = {}
    for kind, section in (("optimizer", experiment.optimizer), ("schedule", experiment.schedule)):
        if section is not None:
            own_optim.connect(kind, section)
            parts[kind] = section.config
    if experiment.objective is not None:
        with user_mistakes("objective"):
            parts["objective"] = create("objective", experiment.objective, info=info)
    if experiment.reward is not None:
        parts["reward"] = _reward_of_tokens(experiment.reward, info)
    with user_mistakes("model"):
        module = create("model", experiment.model, info=info, **parts)
    _add_metrics(experiment, module, info)
    _check_measurable(experiment, module)
    return module


def create(kind: str, section: Section, **offered: Any) -> Any:
    """Build a component from its section, with what the suite offers it, such as `info` and `seed`."""
    entry, target = registry.entry(kind, section.name), registry.target(kind, section.name)
    if kind in ("model", "data", "objective") and entry.has_schema:
        info = [offered.pop("info")] if "info" in offered else []
        return target(section.config, *info, **offered)
    values = arguments(kind, target, section.config, offered)
    if kind == "reward":
        return functools.partial(target, **values)
    if kind == "objective" and not isinstance(target, type):
        return OwnObjective(section.name, functools.partial(target, **values))
    return target(**values)


@dataclass(frozen=True)
class OwnObjective:
    """A function that a user has registered as an objective, with its settings."""

    name: str
    function: Any

    def __call__(self, outputs: Any, targets: Any) -> Any:
        """Return the loss.

        Raises:
            UserError: It is no scalar tensor, or does not depend on the outputs.
        """
        import torch

        loss = self.function(outputs, targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise UserError(f"objective {self.name!r} must return one number as a tensor, got {found}")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise UserError(f"objective {self.name!r} returns a loss that has no gradient to the outputs")
        return loss


def _reward_of_tokens(section: Section, info: Any) -> Callable[..., float]:
    """Return a reward that gets tokens and passes them on as texts.

    Raises:
        UserError: A call of it does not return a finite number.
    """
    from datamodules.tokenizers import tokenizer_from_dict  # slow to import, and rarely needed

    reward = create("reward", section)
    tokenizer = tokenizer_from_dict(getattr(info, "tokenizer", None) or {"kind": "byte"})

    def reward_of_tokens(*tokens: Sequence[int]) -> float:
        texts = [tokenizer.decode(each) for each in tokens]
        value = reward(*texts)
        if not (isinstance(value, SupportsFloat) and math.isfinite(value)):
            raise UserError(
                f"reward {section.name!r} must return a finite number, got {value!r} for the answer "
                f"{texts[1]!r}"
            )
        return float(value)

    return reward_of_tokens


def create_all(kind: str, sections: Mapping[str, Section], **offered: Any) -> dict[str, Any]:
    """Build own callbacks, loggers or metrics by their names.

    Raises:
        UserError: One of them refuses its settings, or is not of the class of its kind.
    """
    built = {}
    for name, section in sections.items():
        with user_mistakes(f"{kind}s.{name}"):
            built[name] = create(kind, section, **offered)
        _check_class(f"{kind}s.{name}", built[name], BASES[kind])
    return built


def _check_class(what: str, built: Any, base: str) -> None:
    """Check that a registered component is an object of a class, given as `"module:Class"`."""
    module, _, name = base.partition(":")
    if not isinstance(built, getattr(importlib.import_module(module), name)):
        raise UserError(f"{what}: {type(built).__name__} is no {module.partition('.')[0]} {name}")


def _add_metrics(experiment: Config, module: Any, info: Any) -> None:
    """Add the metrics of the config to a module of the suite, for validation and for the test.

    Raises:
        UserError: The module has a metric of this name, or logs its metrics itself.
    """
    if not experiment.metrics:
        return
    from lit_modules.classifier import Classifier  # takes long to import, and the model has done so

    for name, section in experiment.metrics.items():
        if ("metric", section.name) not in registry.OWN and not isinstance(module, Classifier):
            raise UserError(
                f"metrics.{name}: {experiment.model.name} predicts no classes; remove this metric"
            )
    for metrics in (getattr(module, "val_metrics", None), getattr(module, "test_metrics", None)):
        if metrics is None:
            raise UserError(f"metrics: the model {experiment.model.name} logs its own; remove this section")
        for name, metric in create_all("metric", experiment.metrics, info=info).items():
            if name in metrics:
                raise UserError(f"metrics.{name}: the model {experiment.model.name} has it already")
            metrics[name] = metric


def compile_network(module: Any, how: bool | str) -> None:
    """Compile the network of a model in place, as `trainer.compile` says."""
    network = getattr(module, "network", module)
    if how is True:
        network.compile()
    elif how == "reduce-overhead":
        network.compile(dynamic=False)  # a CUDA graph has fixed shapes


def _check_measurable(experiment: Config, module: Any) -> None:
    """Check that the measurements of `trainer.measure` are possible for this model."""
    measures = experiment.trainer.measure
    if not measures:
        return
    from lit_modules.classifier import Classifier  # takes long to import, and the model has done so
    from lit_modules.networks.transformer_lm import TransformerLM
    from lit_modules.objective import Distillation

    is_transformer = isinstance(getattr(module, "network", None), TransformerLM)
    of_logits = isinstance(module, Classifier) and not isinstance(module.objective, Distillation)
    for measure, what, fits in (
        ("mistake_gradients", "a classifier without a teacher", of_logits),
        ("class_curves", "a classifier", isinstance(module, Classifier)),
        ("loss_by_position", "a transformer language model", is_transformer),
        ("decoding", "a transformer language model", is_transformer),
    ):
        if measure in measures and not fits:
            raise UserError(
                f"trainer.measure: {measure} needs {what}, but model.name is {experiment.model.name}; "
                "remove it from the list"
            )


def restore(saved: Mapping[str, Any], path: Path, *overrides: str) -> Restored:
    """Rebuild the model of a checkpoint, without its data and its run directory.

    `overrides` are `key=value` strings that change its config; the weights must still fit. A model with
    Triton's kernels gets PyTorch's instead, which run on every machine.

    Raises:
        UserError: The config names something that isn't registered, an override is wrong, or the weights
            don't fit the model.
    """
    from datamodules.info import info_from_dict

    for kind, name in own_code.named(saved["config"]):
        if name not in registry.CATALOG[kind] and kind not in ("callback", "logger"):
            raise UserError(
                f"{path} was trained with the {kind} {name!r}, which is not registered; name the file that "
                f"calls experiments.register({kind!r}, {name!r}, …) with --use FILE.py, or import it"
            )
    plain = {key: value for key, value in saved["config"].items() if key not in ("callbacks", "loggers")}
    if saved["config"]["model"].get("implementation") == "triton":
        overrides = ("model.implementation=fused", *overrides)
    experiment = check_config(
        merge(read_mapping(plain, str(path)), *(read_override(text) for text in overrides))
    )
    try:
        info = info_from_dict(saved["info"])
    except ValueError as error:
        raise UserError(f"{path}: {error}; a newer version of the suite may have written it") from error
    module = build_model(experiment, info)
    if experiment.adapter is not None:
        sha256 = experiment.adapter.config.base_sha256
        adapters.start_from(module, experiment, adapters.read_base(experiment, sha256, beside=path))
    try:
        module.load_state_dict(saved["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()  # below PyTorch's heading
        raise UserError(f"the weights in {path} don't fit its model: {reason}") from error
    return Restored(experiment, module.eval(), info)


@contextlib.contextmanager
def user_mistakes(section: str) -> Iterator[None]:
    """Turn a `ValueError` of data or model into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{section}: {error}") from error
