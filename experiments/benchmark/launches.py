"""Operators, kernel launches and synchronisations of a training step, and what the operators do.

A step of a small network on a GPU takes as long as it takes to launch its kernels. The number of operators
shows this cost on a machine without a GPU too. An operator launches about one kernel; a view launches none.
"""

import argparse
import re
from collections import Counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from experiments.benchmark.full_fit import full_fit
from experiments.benchmark.harness import Cell, Report
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.lightning_adapter import stop_after_this_batch

CONFIGS = ("mnist_cnn", "mnist_cnn_sprint", "lm_char_tiny_shakespeare", "lm_char_tiny_shakespeare_best")
LAUNCHES = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
)
SYNCHRONISATIONS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
PRODUCTS = re.compile(r"aten::(b?mm|baddbmm|addmm|mkldnn_\w*|convolution_backward|_scaled_dot_product_\w+)")
"""Operators that multiply matrices: the least that a step has to do."""
QUICK = ("trainer.limit_val_batches=1", "trainer.limit_test_batches=1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configs."""
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="CONFIG", help="configs to count")


def run(options: argparse.Namespace) -> Report:
    """Count in each config; quick: in one config on scikit-learn's digits."""
    report = Report(title="A training step, everything between two batches included")
    names = ("mnist_mlp",) if options.quick else options.configs
    for name in names:
        digits = ["data.name=digits", "data.batch_size=16"] if options.quick else []
        experiment = load_config(name, *digits, *QUICK)
        report.rows.append({"config": name, **count_step(experiment, steps=options.repeats or 4)})
    report.notes = [
        "operators: calls of PyTorch's operators from Python and from autograd. Kernels and "
        "synchronisations are counted on a GPU only.",
        "products: convolutions, matrix products and attention as a share of the time of all operators.",
        "largest: the five operators that are called most often.",
    ]
    return report


class StepProfile(Callback):
    """Profile some steps of a fit, from the start of one batch to the start of another.

    Args:
        warmup: Number of steps before the first profiled step.
        steps: Number of profiled steps.
    """

    def __init__(self, *, warmup: int = 3, steps: int = 4) -> None:
        self.warmup = warmup
        self.steps = steps
        self.events: list[FunctionEvent] = []
        gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self._profile = profile(activities=[ProfilerActivity.CPU, *gpu], acc_events=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start or stop the profiler before its step."""
        if trainer.global_step == self.warmup:
            self._profile.start()
        elif trainer.global_step == self.warmup + self.steps:
            self._profile.stop()
            self.events = list(self._profile.events() or ())
            stop_after_this_batch(trainer)


def count_step(experiment: Config, *, steps: int = 4) -> dict[str, Cell]:
    """Fit some steps of a config and return the mean counts of a step by name."""
    watcher = StepProfile(steps=steps)
    plain = ("trainer.progress_bar=false", "trainer.dashboard=false", "trainer.compile=false")
    full_fit(load_config(experiment.plain, *plain), watcher)
    operators = Counter(event.name for event in watcher.events if _is_call(event))
    names = Counter(event.name for event in watcher.events)
    most = ", ".join(
        f"{name.removeprefix('aten::')} {count // watcher.steps}" for name, count in operators.most_common(5)
    )
    counts: dict[str, Cell] = {"operators": operators.total() / watcher.steps}
    for column, calls in (("kernels", LAUNCHES), ("synchronisations", SYNCHRONISATIONS)):
        counts[column] = None
        if torch.cuda.is_available():
            counts[column] = sum(names[call] for call in calls) / watcher.steps
    return {**counts, "products, %": 100 * _share(watcher.events, PRODUCTS), "largest": most}


def _share(events: list[FunctionEvent], operators: re.Pattern[str]) -> float:
    """Return the share of these operators in the time of all operators, without what they call."""
    times = [(event.name, event.self_cpu_time_total) for event in events if event.name.startswith("aten::")]
    return sum(time for name, time in times if operators.fullmatch(name)) / sum(time for _, time in times)


def _is_call(event: FunctionEvent) -> bool:
    """Whether an event is an operator that no other operator has called."""
    parent = event.cpu_parent
    return event.name.startswith("aten::") and not (parent is not None and parent.name.startswith("aten::"))
