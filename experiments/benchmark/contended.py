"""Speed of training, sampling and loading beside busy neighbours, compared with a fair share of the cores.

A neighbour is a process in an endless loop. Each job runs in a process of its own: with neighbours from
the start, and with neighbours that come later. A job of t threads beside n neighbours on c cores has a
fair share: min(1, c / (t + n)) of its speed on a quiet machine.
"""

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.benchmark.full_fit import full_fit
from experiments.benchmark.harness import Report, Sample, endless
from experiments.callbacks.decoding_speed import decoding_speed
from experiments.config.check import load_config
from experiments.training import lightning_adapter
from experiments.training.build import build_data
from experiments.training.threads import CHOSEN_BY_USER, core_sharing, usable_cores
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM

DEFAULT = {"GOMP_SPINCOUNT": "300000"}  # libgomp's own value; setting it turns our watch off
POLICIES: dict[str, dict[str, str]] = {"suite": {}, "default": DEFAULT}
CASES = ((0, ""), (1, "from the start"), (1, "later"), (2, "from the start"), (2, "later"))
QUICK_CASES = ((0, ""), (1, "later"))


@dataclass
class Windows:
    """Count the work of a job in two windows of time; neighbours may come between them."""

    seconds: float
    measured: Event
    changed: Event
    speeds: list[float] = field(default_factory=list)
    _count: float = 0.0
    _start: float | None = None

    def count(self, units: float) -> bool:
        """Count finished work; return whether both windows are over."""
        now = time.perf_counter()
        if self._start is None:  # warm-up, or neighbours are still starting
            if not self.speeds or self.changed.is_set():
                self._count, self._start = 0.0, now
            return False
        self._count += units
        if now - self._start >= self.seconds:
            self.speeds.append(self._count / (now - self._start))
            self._start = None
            self.measured.set()
        return len(self.speeds) == 2


def run(options: argparse.Namespace) -> Report:
    """Measure each job with 0, 1 and 2 neighbours, from the start and later."""
    repeats = options.repeats or (1 if options.quick else 3)
    seconds = 0.3 if options.quick else 8.0
    cores = len(usable_cores())
    names = ("loading",) if options.quick else tuple(JOBS)
    cases = QUICK_CASES if options.quick else CASES
    report = Report(title=f"Beside busy neighbours, {cores} cores")
    for name in names:
        values: dict[tuple[str, int, str], list[float]] = {}
        for _ in range(repeats):
            for policy, environment in POLICIES.items():
                for neighbours, when in cases:
                    speeds = measure(name, environment, seconds, neighbours, when == "from the start")
                    values.setdefault((policy, neighbours, when), []).append(speeds[-1])
        quiet = Sample(tuple(values["default", 0, ""]))
        threads = 1 if name == "sampling" else cores
        for (policy, neighbours, when), taken in values.items():
            share = min(1.0, cores / (threads + neighbours))
            report.rows.append(
                {
                    "job": f"{name}, {UNITS[name]}",
                    "threads wait": policy,
                    "neighbours": f"{neighbours} {when}".strip(),
                    "speed": Sample(tuple(taken)),
                    "of the fair share": Sample(tuple(taken)).ratio_to(quiet).scaled(1 / share),
                }
            )
    report.notes = [
        f"{repeats} turns, windows of {seconds:g} s. Fair share: of the default's speed without neighbours.",
        "default: threads wait in a loop for as long as GNU's OpenMP lets them; suite: as every run does.",
    ]
    return report


def measure(
    name: str, environment: dict[str, str], seconds: float, count: int, at_start: bool
) -> list[float]:
    """Run a job in a fresh process; return its speed in both windows, in units per second."""
    context = multiprocessing.get_context("spawn")
    measured, changed = context.Event(), context.Event()
    receiver, sender = context.Pipe(duplex=False)
    with contextlib.ExitStack() as stack:
        if at_start:
            stack.enter_context(_neighbours(count))
            changed.set()
        with _environment(environment):
            child = context.Process(target=_job, args=(name, seconds, measured, changed, sender))
            child.start()
        sender.close()
        while not at_start and child.is_alive() and not measured.wait(0.05):
            pass
        if not at_start:
            stack.enter_context(_neighbours(count))
            changed.set()
        speeds: list[float] = receiver.recv()  # EOFError if the job failed; it has printed why
        child.join()
    return speeds


@contextlib.contextmanager
def _neighbours(count: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in running:
            neighbour.kill()
            neighbour.wait()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set how threads wait for the processes that are started meanwhile."""
    before = os.environ.copy()
    for name in CHOSEN_BY_USER:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _job(name: str, seconds: float, measured: Event, changed: Event, sender: Any) -> None:
    core_sharing.start()
    windows = Windows(seconds, measured, changed)
    JOBS[name](windows)
    sender.send(windows.speeds)


def _train(windows: Windows) -> None:
    class Watcher(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if windows.count(128):
                lightning_adapter.stop_after_this_batch(trainer)

    settings = {
        "trainer.max_steps": 10**6,
        "trainer.max_epochs": 10**4,
        "trainer.limit_val_batches": 1,
        "trainer.limit_test_batches": 1,
        "trainer.progress_bar": False,
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    full_fit(load_config("configs/mnist_cnn_sprint.yaml", *overrides), Watcher())


def _sample(windows: Windows) -> None:
    torch.set_num_threads(1)  # as the command `sample` does for a network of this size
    config = LanguageModelConfig(depth=4, width=128, num_heads=4)
    torch.manual_seed(0)
    network = TransformerLM(config, vocab_size=65, context_length=256)
    model = DecodingLM(network, weights="as_they_are")
    prompt, new_tokens = [1, 2, 3, 4], 16
    decoding_speed(model, [prompt], new_tokens)
    while not windows.count(new_tokens):
        decoding_speed(model, [prompt], new_tokens)


def _load(windows: Windows) -> None:
    augment = {"shift": 2, "rotation": 10, "scale": 0.1}
    data = build_data(
        load_config(
            {"model": {"name": "mlp"}, "data": {"name": "digits", "batch_size": 128, "augment": augment}}
        )
    )
    for _ in endless(data.train_dataloader()):
        if windows.count(128):
            return


JOBS: dict[str, Callable[[Windows], None]] = {"training": _train, "sampling": _sample, "loading": _load}
UNITS = {"training": "samples/s", "sampling": "tokens/s", "loading": "samples/s"}
