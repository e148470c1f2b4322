"""Training time to 99.0 % accuracy on the MNIST test set: our sprint and the classic PyTorch example.

Both train on the same 55,000 images. The weights at the end of each epoch are kept and tested after training,
outside the measured time, so the test set has no influence on training. The ablation goes from the classic
example to the sprint, one piece at a time.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from datamodules.configs.mnist import AugmentConfig
from experiments.benchmark import classic_mnist
from experiments.benchmark.classic_mnist import Trained, accuracies, copy_state, train
from experiments.benchmark.full_fit import fit_seconds, full_fit
from experiments.benchmark.harness import Cell, Report, Sample, positive
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.build import build_data, build_model
from experiments.training.machine import default_device
from experiments.training.trainer import resolve_precision
from lit_modules.networks.classic_cnn import ClassicCNN
from lit_modules.optim.optimizers import build_optimizer
from lit_modules.optim.schedules import build_schedule

SPRINT = "configs/mnist_cnn_sprint.yaml"
QUICK: dict[str, Any] = {"data": {"name": "digits", "batch_size": 64}}
PIECES = ("loader", "precision", "schedule", "network")
"""The pieces in the order in which the ablation replaces them. The schedule includes optimizer, batch size
and augmentation; the network includes its memory format."""


@dataclass
class Outcome:
    """One way of training, over several seeds."""

    seconds: list[list[float]] = field(default_factory=list)
    """For each seed, the training time up to the end of each epoch."""
    accuracies: list[list[float]] = field(default_factory=list)
    """For each seed, the test accuracy after each epoch."""

    def add(self, trained: Trained, data: Any) -> None:
        """Test the weights of a fit after each epoch."""
        images, targets = data.split("test")
        self.accuracies.append(accuracies(trained, data.normalize(images.cpu()), targets.cpu()))
        self.seconds.append(trained.seconds)

    def epochs_to(self, target: float) -> list[int] | None:
        """Return the first epoch (from 1) with this test accuracy, for each seed; None if a seed fails."""
        reached = [
            next((e for e, accuracy in enumerate(run, 1) if accuracy >= target), 0) for run in self.accuracies
        ]
        return reached if all(reached) else None

    def seconds_to(self, target: float) -> Sample | None:
        """Return the training time up to the end of that epoch; None if a seed fails."""
        epochs = self.epochs_to(target)
        if epochs is None:
            return None
        return Sample(tuple(ends[e - 1] for ends, e in zip(self.seconds, epochs, strict=True)))

    def row(self, name: str, target: float, classic: Sample | None) -> dict[str, Cell]:
        """Return one row of the report."""
        seconds, epochs = self.seconds_to(target), self.epochs_to(target)
        means = [sum(epoch) / len(epoch) for epoch in zip(*self.accuracies, strict=True)]
        return {
            "training": name,
            "seconds per epoch": Sample(tuple(ends[-1] / len(ends) for ends in self.seconds)),
            "% after each epoch": " ".join(f"{100 * mean:.2f}" for mean in means),
            "epochs to target": Sample(tuple(map(float, epochs))) if epochs else "not reached",
            "seconds to target": seconds,
            "times as fast": classic.ratio_to(seconds) if classic and seconds else None,
        }


class EpochWeights(Callback):
    """Keeps the weights that each validation uses: the moving average, if the config asks for it."""

    trained: Trained

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start without weights."""
        self.trained = Trained(pl_module.network)  # type: ignore[arg-type]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy the weights of this epoch."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.trained.states.append(copy_state(self.trained.network))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when the epoch before ended, with its validation and checkpoint."""
        if trainer.current_epoch:
            self.trained.seconds.append(fit_seconds(trainer))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how much to run."""
    parser.add_argument(
        "--max-epochs", type=positive, default=5, metavar="N", help="epochs of a bare loop at most (5)"
    )
    parser.add_argument("--target", type=float, default=0.99, help="test accuracy to reach (0.99)")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="S",
        help="first seed; use a seed that no setting was chosen with (0)",
    )
    parser.add_argument(
        "--ablation-repeats",
        type=int,
        default=1,
        metavar="N",
        help="seeds of the ablation; 0 leaves it out (1)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "32-true", "bf16-mixed"),
        default="auto",
        help="ours; 32-true is that of a machine without bf16 (auto)",
    )


def run(options: argparse.Namespace) -> Report:
    """Train both with each seed, then run the ablation. A repeat is one seed."""
    repeats = options.repeats or (1 if options.quick else 3)
    ours = f"trainer.precision={options.precision}"
    experiment = load_config(SPRINT, *([QUICK] if options.quick else []), ours)
    data = build_data(experiment)
    precision = resolve_precision(experiment.trainer)
    classic, sprint = Outcome(), Outcome()
    seeds = range(options.first_seed, options.first_seed + repeats)
    for seed in seeds:
        print(f"seed {seed}: {options.max_epochs} epochs of the classic example, then the sprint", flush=True)
        classic.add(bare_fit(experiment, data, (), seed=seed, epochs=options.max_epochs), data)
        sprint.add(suite_fit(experiment, seed=seed), data)
    reference = classic.seconds_to(options.target)
    report = Report(title=f"Training to {100 * options.target:g} % on the test set")
    report.rows.append(classic.row("classic example", options.target, reference))
    seeds = seeds[: options.ablation_repeats]
    first = Sample(reference.values[: len(seeds)]) if reference and seeds else None
    for count, piece in enumerate(PIECES, 1):
        if seeds:
            outcome = shortest(experiment, data, PIECES[:count], seeds, options)
            report.rows.append(outcome.row(f"+ our {piece}", options.target, first))
    report.rows.append(sprint.row("sprint, full suite", options.target, reference))
    report.notes = [
        f"{repeats} seeds, starting with {options.first_seed}; our precision is {precision}.",
        f"A row with + adds to the rows before it; seeds per row: {len(seeds)}.",
        "Time starts at the first step; the time of the suite includes validation, logs and checkpoints.",
        "A schedule that ends with training gets the fewest epochs that reach the target (not fewer than "
        "the sprint).",
    ]
    return report


def suite_fit(experiment: Config, *, seed: int) -> Trained:
    """Fit the config with everything that a run has, and keep the weights of each epoch."""
    watcher = EpochWeights()
    metrics = full_fit(experiment, watcher, seed=seed)
    watcher.trained.seconds.append(metrics["fit_seconds"])
    return watcher.trained


def bare_fit(experiment: Config, data: Any, swapped: Sequence[str], *, seed: int, epochs: int) -> Trained:
    """Train with the classic loop after replacing some of its pieces by those of an experiment.

    `swapped` are some of `PIECES`. A schedule with an end ends after `epochs` epochs.
    """
    torch.manual_seed(seed)
    network: nn.Module = ClassicCNN(image_shape=data.info.input_shape, num_classes=len(data.info.class_names))
    if "network" in swapped:
        network = build_model(experiment, data.info).network
    network = network.to(default_device())
    batches: Any
    if "loader" in swapped:
        settings = experiment.data.config
        if "schedule" not in swapped:
            settings = replace(settings, batch_size=classic_mnist.BATCH_SIZE, augment=AugmentConfig())
        batches = type(data)(settings, seed=seed).train_dataloader()
    else:
        images, targets = data.split("train")
        batches = classic_mnist.classic_loader(images.cpu(), targets.cpu(), data.mean, data.std)
    bf16 = "precision" in swapped and resolve_precision(experiment.trainer) == "bf16-mixed"
    if "schedule" not in swapped:
        optimizer, schedule = classic_mnist.classic_optimizer(network)
        return train(network, batches, optimizer, schedule, epochs=epochs, bf16=bf16)
    assert experiment.optimizer is not None
    assert experiment.schedule is not None
    optimizer = build_optimizer(network, experiment.optimizer.config)
    steps, limits = len(batches), experiment.trainer
    if limits.max_steps is not None and epochs == limits.max_epochs:  # As short as the experiment itself.
        steps = min(steps, math.ceil(limits.max_steps / epochs))
    factor = build_schedule(experiment.schedule.config, total_steps=epochs * steps, steps_per_epoch=steps)
    return train(
        network,
        batches,
        optimizer,
        LambdaLR(optimizer, factor),
        epochs=epochs,
        steps_per_epoch=steps,
        schedule_each="step",
        bf16=bf16,
    )


def shortest(
    experiment: Config, data: Any, swapped: Sequence[str], seeds: Sequence[int], options: argparse.Namespace
) -> Outcome:
    """Train bare loops; if the schedule has an end, use the fewest epochs that reach the target."""
    first = options.max_epochs
    if "schedule" in swapped:
        first = min(first, experiment.trainer.max_epochs)
    outcome = Outcome()
    for epochs in range(first, options.max_epochs + 1):
        outcome = Outcome()
        for seed in seeds:
            print(f"seed {seed}: {epochs} epochs with our {', '.join(swapped)}", flush=True)
            outcome.add(bare_fit(experiment, data, swapped, seed=seed, epochs=epochs), data)
        if outcome.epochs_to(options.target):
            break
    return outcome
