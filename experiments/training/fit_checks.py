"""Refuse, before training, what would end in an error or in a full memory during training."""

import copy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from datamodules.base import PARTS, DataModule, ResidentDataModule
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


def check_memory(experiment: Config, info: Any) -> None:
    """Check that weights, gradients and optimizer state fit into memory, before they are allocated.

    The model is built without memory for its tensors. This bound leaves out activations. Models that are not
    part of the suite are not checked, nor are those that FSDP shares between devices.

    Raises:
        UserError: They need more than the memory of the machine or GPU.
    """
    ours = registry.target("model", experiment.model.name).__module__.startswith("lit_modules.")
    if not ours or experiment.optimizer is None or experiment.trainer.strategy == "fsdp":
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            module = build_model(experiment, info)
            if experiment.adapter is not None:
                adapters.add_updates(module, experiment.adapter.config)
            parameters = list(module.parameters())
    except (NotImplementedError, RuntimeError):  # it reads values while it is built
        return
    counts = [p.numel() for p in parameters]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    size = (
        number_format(experiment.trainer.precision).itemsize if "-true" in experiment.trainer.precision else 4
    )
    needed = size * (sum(counts) + trained * (1 + _states(experiment.optimizer.config)))
    if needed > (available := _memory(resolve_accelerator(experiment.trainer))):
        raise UserError(
            f"model: {sum(counts):,} parameters with their gradients and the state of the optimizer need "
            f"{needed / 1e9:,.0f} GB; this machine has {available / 1e9:,.0f} GB; choose smaller sizes"
        )


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
