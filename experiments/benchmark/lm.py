"""Loss on tiny Shakespeare after equal training time: our language model and a small GPT in a plain loop.

Both train on the same 1,003,854 characters and are scored on the other 111,540, in adjacent windows of their
own context length. The small GPT trains first. Ours then trains for as many epochs as fit into the same time;
one epoch is timed beforehand. Our time is counted by the suite and includes validation, logs, samples and
checkpoints.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.benchmark import classic_gpt
from experiments.benchmark.full_fit import fit_seconds, full_fit
from experiments.benchmark.harness import Cell, Report, Sample, positive
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.build import build_data
from experiments.training.machine import default_device

CONFIG = "configs/lm_char_tiny_shakespeare.yaml"
QUICK: dict[str, Any] = {
    "model": {"depth": 1, "width": 32},
    "data": {"context_length": 16, "batch_size": 4, "steps_per_epoch": 5},
}


@dataclass
class Validations(Callback):
    """Records the training time and the loss at each validation."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record both."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.seconds.append(fit_seconds(trainer))
            self.losses.append(float(trainer.callback_metrics["val/loss"]))

    def seconds_to(self, loss: float) -> float | None:
        """Return the training time up to the first validation with at most this loss, if there is one."""
        pairs = zip(self.seconds, self.losses, strict=True)
        return next((seconds for seconds, reached in pairs if reached <= loss), None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how much to run."""
    parser.add_argument(
        "--steps",
        type=positive,
        default=classic_gpt.STEPS,
        metavar="N",
        help="training steps of the small GPT (2000)",
    )


def run(options: argparse.Namespace) -> Report:
    """Train both with each seed. A repeat is one seed."""
    experiment = load_config(CONFIG, *([QUICK] if options.quick else []))
    steps, repeats = (20, options.repeats or 1) if options.quick else (options.steps, options.repeats or 3)
    data = build_data(experiment)
    train, val = (
        torch.as_tensor(data.tokens(name).astype("int64"), device=default_device())
        for name in ("train", "val")
    )
    small: dict[str, list[float]] = {"loss": [], "seconds": []}
    ours: dict[str, list[float]] = {"loss": [], "seconds": [], "epochs": []}
    times: list[float | None] = []
    for seed in range(repeats):
        print(f"seed {seed}: {steps} steps of the small GPT", flush=True)
        trained = classic_gpt.train(train, data.info.vocab_size, seed=seed, steps=steps)
        small["seconds"].append(trained.seconds)
        small["loss"].append(classic_gpt.text_loss(trained.network.eval(), val))
        per_epoch = suite_fit(experiment, seed=seed, epochs=1).seconds[-1]
        epochs = max(1, int(trained.seconds / per_epoch))
        print(f"seed {seed}: {epochs} epochs of ours, {per_epoch:.1f} s each", flush=True)
        curve = suite_fit(experiment, seed=seed, epochs=epochs)
        ours["epochs"].append(epochs)
        ours["seconds"].append(curve.seconds[-1])
        ours["loss"].append(curve.losses[-1])
        times.append(curve.seconds_to(small["loss"][-1]))
    report = Report(title="Validation loss on tiny Shakespeare after equal training time")
    report.rows = _rows(small, ours, times)
    report.notes = [
        f"{repeats} seeds; the small GPT takes {steps} steps, ours {ours['epochs']} epochs of "
        f"{experiment.data.config.steps_per_epoch} steps.",
        "Loss in nats per character. Our loss is known at the end of each epoch only.",
    ]
    return report


def _rows(
    small: dict[str, list[float]], ours: dict[str, list[float]], times: list[float | None]
) -> list[dict[str, Cell]]:
    """Return one row for each of the two; `times` are, by seed, our times to the loss of the small GPT."""
    baseline = Sample(tuple(small["seconds"]))
    reached = [seconds for seconds in times if seconds is not None]
    passed = Sample(tuple(reached)) if len(reached) == len(times) else None
    return [
        {
            "training": "small GPT, plain loop",
            "seconds": baseline,
            "validation loss": Sample(tuple(small["loss"])),
            "seconds to the small GPT's loss": baseline,
            "share of its time": 1.0,
        },
        {
            "training": "ours, full suite",
            "seconds": Sample(tuple(ours["seconds"])),
            "validation loss": Sample(tuple(ours["loss"])),
            "seconds to the small GPT's loss": passed or "not reached",
            "share of its time": passed.ratio_to(baseline) if passed else None,
        },
    ]


def suite_fit(experiment: Config, *, seed: int, epochs: int) -> Validations:
    """Fit the config with everything that a run has, for a number of epochs."""
    watcher = Validations()
    full_fit(experiment, watcher, seed=seed, trainer={"max_epochs": epochs})
    return watcher
