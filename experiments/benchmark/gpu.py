"""Speed on a GPU, against its targets: steps, two fits, attention, the start of a command; six minutes.

A row is printed as soon as it is measured. If a row fails or has no time left, its cell says why, and the
next row is measured.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from experiments.benchmark import attention, mnist
from experiments.benchmark.full_fit import StepClock, full_fit
from experiments.benchmark.harness import Cell, Report, Sample, interleaved, timed
from experiments.benchmark.launches import count_step
from experiments.benchmark.lm import QUICK as QUICK_TEXT
from experiments.benchmark.lm import Validations
from experiments.benchmark.overhead import QUICK as QUICK_IMAGES
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.training.build import build_data
from experiments.training.machine import default_device
from lit_modules.functional.cuda_graph import CudaGraph

IMAGES, TEXT, BEST_TEXT = "mnist_cnn", "lm_char_tiny_shakespeare", "lm_char_tiny_shakespeare_best"
PLAIN: dict[str, Any] = {"trainer": {"dashboard": False, "progress_bar": False}}
START = """
from experiments.training.quick_imports import import_lightning
import_lightning()
import experiments.training.fit
"""
LONG_EPOCH: dict[str, Any] = {"data": {"steps_per_epoch": 300}}  # no validation among the measured steps


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    minutes: float = 6.0
    images: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = ("tiled", "triton")
    length: int = 4096
    graphs: bool = True
    warmup: int = 30
    steps: int = 20
    repeats: int = 5
    loss: float = 1.47


QUICK = Sizes(
    minutes=2,
    images=QUICK_IMAGES,
    text={**QUICK_TEXT, "trainer": {"compile": False, "limit_val_batches": 1, "limit_test_batches": 1}},
    length=64,
    graphs=False,
    warmup=1,
    steps=1,
    repeats=2,
    loss=9.0,
)

Measurement = Callable[[float], dict[str, Cell]]
"""Gets the seconds that are left, and returns cells of its row."""


@dataclass(frozen=True)
class Work:
    """One row: what is measured, its target, and the fewest seconds for which it is worth starting."""

    name: str
    target: str
    measure: Measurement
    least_seconds: float = 20.0


def run(options: argparse.Namespace) -> Report:
    """Measure all rows. A repeat is a turn of attention, or of 20 steps of a fit."""
    if not torch.cuda.is_available():
        raise UserError("this benchmark needs a CUDA GPU, and this machine has none")
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, repeats=options.repeats or sizes.repeats)
    return measure(works(sizes), seconds=60 * sizes.minutes)


def works(sizes: Sizes) -> list[Work]:
    """List the rows; the ones that may be cut off come last."""
    how = "cuda-graph" if sizes.graphs else False
    rows = _steps(sizes, False)
    if sizes.graphs:
        rows += _steps(sizes, how)
    rows.append(Work(f"mnist_cnn_sprint to 99 %{_with(how)}", "≤ 1.0 s of fit", partial(_sprint, sizes, how)))
    for way in sizes.ways:
        target = "≤ 1.5 × PyTorch's kernel" if way == "triton" else ""
        name = f"attention, {way}, T = {sizes.length}, bf16"
        rows.append(Work(name, target, partial(_attention, sizes, way)))
    rows.append(Work("start of a command", "≤ 8 s", _start))
    name = f"{BEST_TEXT}, a step, and to {sizes.loss} nats{_with(how)}"
    rows.append(Work(name, "≤ 6 ms, ≤ 60 s of fit", partial(_best, sizes, how)))
    if sizes.graphs:
        rows += _steps(sizes, "reduce-overhead")
    return rows


def _steps(sizes: Sizes, how: bool | str) -> list[Work]:
    return [
        Work(
            f"{config}, a step{_with(how)}",
            f"≤ {target} ms",
            partial(_step, sizes, config, changes, how),
            60.0,
        )
        for config, changes, target in (
            (IMAGES, (sizes.images,), 1.5),
            (TEXT, (LONG_EPOCH, sizes.text), 4.0),
        )
    ]


def _with(how: bool | str) -> str:
    return f", compile: {how}" if how else ""


def measure(rows: list[Work], *, seconds: float) -> Report:
    """Measure and print one row after the other, as long as there is time."""
    end = time.monotonic() + seconds
    report = Report(title="On a GPU")
    for row in rows:
        left = end - time.monotonic()
        cells: dict[str, Cell] = {"measured": f"no time left ({left:.0f} s)"}
        if left >= row.least_seconds:
            try:
                cells = row.measure(left)
            except Exception as error:
                reason = (str(error).splitlines() or [""])[0]
                cells = {"measured": f"failed: {type(error).__name__}: {reason}"}
        report.rows.append({"work": row.name, **cells, "target": row.target})
        print(f"{row.name}: {', '.join(f'{key} {cell}' for key, cell in cells.items())}", flush=True)
    report.notes = [
        "Kernels and synchronisations are counts per step without compilation.",
        "Attention: batch size 1, 8 heads of width 64, causal, forward and backward; × is the time divided "
        "by that of PyTorch's kernel.",
    ]
    return report


def _step(
    sizes: Sizes, config: str, changes: tuple[dict[str, Any], ...], how: bool | str, left: float
) -> dict[str, Cell]:
    experiment = load_config(config, *changes, PLAIN, f"trainer.compile={str(how).lower()}")
    clock = StepClock(warmup=sizes.warmup, steps=sizes.steps, turns=sizes.repeats)
    full_fit(experiment, clock)
    cells: dict[str, Cell] = {"measured": clock.text()}
    if not how:
        counts = count_step(experiment)
        cells |= {key: counts[key] for key in ("kernels", "synchronisations")}
    return cells


def _sprint(sizes: Sizes, how: bool | str, left: float) -> dict[str, Cell]:
    experiment = load_config(mnist.SPRINT, sizes.images, PLAIN, f"trainer.compile={str(how).lower()}")
    outcome = mnist.Outcome()
    outcome.add(mnist.suite_fit(experiment, seed=experiment.seed), build_data(experiment))
    seconds, accuracy = outcome.seconds_to(0.99), outcome.accuracies[0][-1]
    reached = f"{100 * accuracy:.2f} % in {outcome.seconds[0][-1]:.2f} s of fit"
    return {"measured": reached if seconds else f"not reached: {reached}"}


def _attention(sizes: Sizes, way: str, left: float) -> dict[str, Cell]:
    inputs = attention.make_inputs((1, 8, 8, sizes.length, 64), "bfloat16", default_device())
    calls = {
        name: partial(attention.attend, name, inputs, backward=True) for name in (attention.BASELINE, way)
    }
    cells = []
    for replayed in (True, False) if sizes.graphs else (False,):
        ready = {name: CudaGraph(call, []) if replayed else call for name, call in calls.items()}
        both = interleaved(
            {name: timed(call, calls=5) for name, call in ready.items()}, repeats=sizes.repeats, warmup=2
        )
        ratio: Sample = both[way].ratio_to(both[attention.BASELINE])
        how = "as a CUDA graph" if replayed else "called from Python"
        cells.append(f"{ratio.median:.2f} × ({1e3 * both[way].median:.2f} ms) {how}")
    return {"measured": ", ".join(cells)}


def _start(left: float) -> dict[str, Cell]:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", START], check=True, timeout=left)
    return {"measured": f"{time.perf_counter() - start:.1f} s"}


def _best(sizes: Sizes, how: bool | str, left: float) -> dict[str, Cell]:
    """Measure a step and the time to the loss in one fit, and leave a tenth of the time for its test."""
    clock = StepClock(warmup=sizes.warmup, steps=sizes.steps, turns=sizes.repeats, ends=False)
    validations = Validations()
    limit = {"trainer": {"max_minutes": 0.9 * left / 60, "compile": how}}
    full_fit(load_config(BEST_TEXT, sizes.text, PLAIN, limit), clock, validations)
    seconds = validations.seconds_to(sizes.loss)
    reached = f"{min(validations.losses):.4f} nats at best" if seconds is None else f"{seconds:.1f} s of fit"
    return {"measured": f"{clock.text()}, {reached}"}
