"""Cost of a training step: with the full set-up, under Lightning's barebones Trainer, and in a bare loop.

The bare loop takes turns with each fit: before each chunk of the Trainer's steps, it takes the same number of
steps with its own network, loader and optimizer. So each chunk is compared with a time measured just before.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import LambdaLR

from experiments.benchmark.full_fit import full_fit
from experiments.benchmark.harness import Report, Sample, device_clock, endless, positive
from experiments.callbacks.weight_average import averaged_tensors
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.console import quiet_lightning
from experiments.training.build import build_data, build_model
from experiments.training.lightning_adapter import stop_after_this_batch
from experiments.training.machine import default_device
from experiments.training.trainer import resolve_accelerator, resolve_precision
from lit_modules.configs.optim import ConstantConfig
from lit_modules.optim.optimizers import build_optimizer
from lit_modules.optim.schedules import build_schedule

QUICK: dict[str, Any] = {"data": {"name": "digits", "batch_size": 16}, "trainer": {"log_every_n_steps": 4}}
LIMITS = {"mnist_cnn": ("bare", 1.05), "mnist_mlp": ("barebones", 1.15)}
"""For each experiment: a reference, and the target for the ratio of a step's time to the reference."""


class TakingTurns(Callback):
    """Times chunks of a fit's steps, each directly after the same number of steps of another loop.

    Args:
        bare_step: Takes one step of the other loop, loading included.
        chunk: Steps per turn; a multiple of the logging period, so that each chunk logs equally often.
        turns: Number of recorded turns, after one warm-up turn.
    """

    def __init__(self, bare_step: Callable[[], object], *, chunk: int, turns: int) -> None:
        self.bare_step = bare_step
        self.chunk = chunk
        self.turns = turns
        self.bare: list[float] = []
        self.fit: list[float] = []
        self._started: float | None = None
        self._left = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """At the end of a chunk, stop the clock and let the bare loop take its turn."""
        if self._left:
            self._left -= 1
            return
        if self._started is not None:
            self.fit.append(device_clock() - self._started)
            self._started = None
        if len(self.fit) > self.turns:
            stop_after_this_batch(trainer)
            return
        start = device_clock()
        for _ in range(self.chunk):
            self.bare_step()
        self._started = device_clock()
        self.bare.append(self._started - start)
        self._left = self.chunk - 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Discard a chunk that the end of an epoch interrupts, because this is not part of a step."""
        if self._started is not None:
            self.bare.pop()
        self._started, self._left = None, 0

    def ratio(self) -> float:
        """Return the time of a step of the fit divided by that of a bare step."""
        turns = zip(self.fit[1:], self.bare[1:], strict=True)
        return statistics.median(fit / bare for fit, bare in turns)

    def fit_seconds(self) -> float:
        """Return the seconds of one step of the fit."""
        return statistics.median(self.fit[1:]) / self.chunk

    def bare_seconds(self) -> float:
        """Return the seconds of one step of the bare loop."""
        return statistics.median(self.bare[1:]) / self.chunk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how much to run."""
    parser.add_argument("--turns", type=positive, metavar="N", help="chunks of 50 steps per fit (20)")


def run(options: argparse.Namespace) -> Report:
    """Measure all experiments. A repeat is one fit of each kind."""
    repeats = options.repeats or (1 if options.quick else 3)
    turns = options.turns or (2 if options.quick else 20)
    report = Report(title="A training step in a Trainer and in the bare PyTorch loop")
    for name, (reference, limit) in LIMITS.items():
        experiment = load_config(
            f"configs/{name}.yaml",
            *([QUICK] if options.quick else []),
            {"trainer": {"max_epochs": turns + 2}},
        )
        chunk = experiment.trainer.log_every_n_steps
        kinds: dict[str, Callable[[Config, Callback], object]] = {
            "barebones": barebones_fit,
            "full": full_fit,
        }
        watched: dict[str, list[TakingTurns]] = {kind: [] for kind in kinds}
        for _ in range(repeats):
            for kind, run_fit in kinds.items():
                watched[kind].append(TakingTurns(BareLoop(experiment).step, chunk=chunk, turns=turns))
                run_fit(experiment, watched[kind][-1])
        ratios = {kind: Sample(tuple(one.ratio() for one in all_)) for kind, all_ in watched.items()}
        bare = Sample(tuple(one.bare_seconds() for all_ in watched.values() for one in all_))
        ratios["bare"] = Sample((1.0,) * repeats)
        report.rows.append({"experiment": name, "step": "bare loop", "ms": bare.scaled(1e3)})
        for kind in kinds:
            added = [(one.ratio() - 1) * one.bare_seconds() for one in watched[kind]]
            report.rows.append(
                {
                    "experiment": name,
                    "step": kind,
                    "ms": Sample(tuple(one.fit_seconds() for one in watched[kind])).scaled(1e3),
                    "times bare": ratios[kind],
                    "times barebones": ratios[kind].ratio_to(ratios["barebones"]),
                    "added µs": Sample(tuple(added)).scaled(1e6),
                }
            )
        cost = ratios["full"].ratio_to(ratios[reference])
        report.notes.append(f"{name}: the full set-up costs {cost} × {reference}; target: ≤ {limit} ×.")
    report.notes.append(
        f"{repeats} fits of each kind, {turns} turns of {chunk} steps; a fit's value is its median turn."
    )
    return report


def barebones_fit(experiment: Config, watcher: Callback) -> None:
    """Fit with Lightning's Trainer and nothing else."""
    data = build_data(experiment)
    with quiet_lightning():
        trainer = L.Trainer(
            barebones=True,
            accelerator=resolve_accelerator(experiment.trainer),
            devices=1,
            precision=resolve_precision(experiment.trainer),  # type: ignore[arg-type]
            max_epochs=experiment.trainer.max_epochs,
            gradient_clip_val=experiment.trainer.gradient_clip_norm,
            limit_val_batches=0,
            use_distributed_sampler=False,
            callbacks=[watcher],
        )
        trainer.fit(build_model(experiment, data.info), datamodule=data)


class BareLoop:
    """The training steps of an experiment in plain PyTorch.

    A step does the same as in the fit: load and augment, forward, loss, backward, optimizer, schedule and
    average of the weights, as far as the config asks for them.
    """

    def __init__(self, experiment: Config) -> None:
        data = build_data(experiment)
        module = build_model(experiment, data.info).to(default_device()).train()
        self.network = module.network
        assert experiment.optimizer is not None
        assert experiment.schedule is not None
        self.optimizer = build_optimizer(module, experiment.optimizer.config)
        self.schedule = None
        batches = data.train_dataloader()
        if not isinstance(experiment.schedule.config, ConstantConfig):
            total = (experiment.trainer.max_epochs or 1) * len(batches)
            factor = build_schedule(
                experiment.schedule.config, total_steps=total, steps_per_epoch=len(batches)
            )
            self.schedule = LambdaLR(self.optimizer, factor)
        assert experiment.objective is not None
        self.smoothing = experiment.objective.config.label_smoothing
        self.decay = experiment.trainer.ema_decay
        self.live = list(averaged_tensors(module).values())
        self.average = [tensor.detach().clone() for tensor in self.live]
        self.bf16 = resolve_precision(experiment.trainer) == "bf16-mixed"
        self._batches = endless(batches)

    def step(self) -> None:
        """Take one step."""
        images, targets = (tensor.to(default_device()) for tensor in next(self._batches))
        self.optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            loss = F.cross_entropy(self.network(images), targets, label_smoothing=self.smoothing)
        loss.backward()
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.decay is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.live, 1 - self.decay)
