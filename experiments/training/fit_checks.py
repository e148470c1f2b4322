"""Refuse a fit that would fail or run out of memory during training, before it begins."""

import copy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from datamodules.base import PARTS, DataModule, ResidentDataModule
from datamodules.info import TextInfo
from datamodules.loading.resident import machine_memory
from experiments.callbacks.flops import number_format
from experiments.callbacks.summary import example_input
from experiments.config import registry
from experiments.config.root import Config
from experiments.errors import UserError
from experiments.training import adapters
from experiments.training.build import build_model, user_mistakes
from experiments.training.threads import usable_cores
from experiments.training.trainer import resolve_accelerator


def check_batches(
    datamodule: Any, module: L.LightningModule, trainer: L.Trainer, max_batches: int | None
) -> None:
    """Check that each split has a batch for each process, and that the model can learn from each batch.

    Args:
        datamodule: The data; the splits of another class than `DataModule` are not checked.
        module: The model.
        trainer: The Trainer of the fit; it states the number of processes.
        max_batches: The number of training batches in an epoch; `None` for all.

    Raises:
        UserError: A split is too small, batch norm would get a single value per channel, or a plain module
            has no validation.
    """
    if lacking := lacks(module, "validation_step") + lacks(datamodule, "val_dataloader"):
        raise UserError(
            f"there is no {' and no '.join(lacking)}; validation chooses the weights that are kept"
        )
    if not isinstance(datamodule, DataModule):
        return
    workers, cores = getattr(datamodule.config, "num_workers", 0), len(usable_cores())
    if workers > cores:
        raise UserError(f"data.num_workers = {workers}: this process may use {cores} CPU cores")
    datamodule.trainer = trainer
    with user_mistakes("data"):
        loaders = {part: datamodule.loader(part) for part in PARTS}
    if isinstance(datamodule, ResidentDataModule) and loaders["train"].smallest_batch(max_batches) == 1:
        _check_single_sample(datamodule, module)


def lacks(part: Any, method: str) -> list[str]:
    """Return the name of a method that a plain module or datamodule does not define; empty if it does."""
    return [] if is_overridden(method, part) else [f"{type(part).__name__}.{method}"]


def _check_single_sample(datamodule: ResidentDataModule, module: L.LightningModule) -> None:
    """Run a copy of a network with batch norm on one sample, without memory for its tensors."""
    sample = example_input(module)
    network = getattr(module, "network", None)
    if not isinstance(sample, torch.Tensor) or not isinstance(network, torch.nn.Module):
        return
    if not any("BatchNorm" in type(layer).__name__ for layer in network.modules()):
        return
    try:
        copy.deepcopy(network).to("meta").train()(sample.to("meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error) and "one value per channel" not in str(error):
            raise
        config = datamodule.config
        advice = " or set data.drop_last to true" if hasattr(config, "drop_last") else ""
        raise UserError(
            f"data.batch_size = {config.batch_size}: the last training batch has one sample, and batch norm "
            f"needs more than one value per channel; choose another size{advice}"
        ) from None


def check_memory(experiment: Config, datamodule: Any) -> None:
    """Check that a training step fits into memory, before anything is allocated.

    The model is built and run without memory for its tensors. The bound counts weights, gradients, the state
    of the optimizer, and the inputs of trained layers, which the backward pass needs. A step needs more.
    Models that are not part of the suite are not checked, nor are those that FSDP shares between devices.

    Raises:
        UserError: They need more than the memory of the machine or GPU.
    """
    ours = registry.target("model", experiment.model.name).__module__.startswith("lit_modules.")
    if not ours or experiment.optimizer is None or experiment.trainer.strategy == "fsdp":
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            module = build_model(experiment, datamodule.info)
            if experiment.adapter is not None:
                adapters.add_updates(module, experiment.adapter.config)
    except (NotImplementedError, RuntimeError):  # it reads values while it is built
        return
    parameters = list(module.to("meta").parameters())
    counts = [p.numel() for p in parameters]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    precision = experiment.trainer.precision
    size = number_format(precision).itemsize if "-true" in precision else 4
    needed = size * (sum(counts) + trained * (1 + _states(experiment.optimizer.config)))
    if needed > (available := _memory(resolve_accelerator(experiment.trainer))):
        raise UserError(
            f"model: {sum(counts):,} parameters with their gradients and the state of the optimizer need "
            f"{needed / 1e9:,.0f} GB; this machine has {available / 1e9:,.0f} GB; choose smaller sizes"
        )
    batch = 0 if experiment.trainer.compile else _training_batch(datamodule)  # a compiler may recompute
    sample = example_input(module)
    if not batch or not isinstance(sample, torch.Tensor):
        return
    size = 4 if precision in ("32-true", "64-true") else 2
    widths = sum(p.shape[1] for p in parameters if p.requires_grad and p.dim() > 1)
    if needed + size * batch * sample.numel() * widths <= available:  # even an upper bound of the inputs fits
        return
    kept = size * batch * _kept_for_backward(module, sample.to("meta"))
    if needed + kept > available:
        raise UserError(
            f"data.batch_size = {batch}: a training step needs over {(needed + kept) / 1e9:,.0f} GB; this "
            f"machine has {available / 1e9:,.0f} GB; choose a smaller batch or a smaller model"
        )


def _training_batch(datamodule: Any) -> int:
    """Return the samples in a training batch; 0 if batches have no fixed shape."""
    if isinstance(datamodule.info, TextInfo):
        return int(getattr(datamodule.config, "batch_size", 0))
    if isinstance(datamodule, ResidentDataModule) and hasattr(datamodule.info, "input_shape"):
        return min(int(datamodule.config.batch_size), len(datamodule.split("train")[0]))
    return 0


def _kept_for_backward(module: L.LightningModule, sample: torch.Tensor) -> int:
    """Count the values for each sample that enter layers with trained matrices, each tensor once.

    Two passes tell what grows with the batch. Nothing is computed: the tensors are on the meta device.
    """
    kept: dict[int, torch.Tensor] = {}

    def note(layer: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        trained = any(p.requires_grad and p.dim() > 1 for p in layer.parameters(recurse=False))
        if trained and inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].is_floating_point():
            kept[inputs[0].untyped_storage()._cdata] = inputs[0]

    handles = [layer.register_forward_pre_hook(note) for layer in module.modules()]
    counts = []
    try:
        for size in (2, 3):  # batch norm needs more than one sample
            kept.clear()
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                module(sample.expand(size, *sample.shape[1:]))
            counts.append(sum(x.numel() for x in kept.values()))
    except (NotImplementedError, RuntimeError, ValueError):  # it reads values
        return 0
    finally:
        for handle in handles:
            handle.remove()
    return counts[1] - counts[0]


def _states(optimizer: Any) -> int:
    """Return the least number of values that the optimizer keeps for each parameter."""
    if hasattr(optimizer, "betas"):
        return 2
    return int(getattr(optimizer, "momentum", 0) > 0)


def _memory(accelerator: str) -> float:
    """Return the bytes of memory of the machine, or of its first GPU."""
    if accelerator == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return machine_memory()
