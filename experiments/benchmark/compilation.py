"""Time that `trainer.compile=true` saves or costs in a fit of each config: its start, and all its steps.

A fit with compilation and one without take turns. The first compiled fit finds an empty cache of the
compiler; the later ones find what the first one has written, as the fits of a study do.
"""

import argparse
import os
import tempfile
from typing import Any
from unittest.mock import patch

import torch

from experiments.benchmark.full_fit import StepClock, full_fit
from experiments.benchmark.harness import Report, Sample, positive
from experiments.benchmark.overhead import QUICK as QUICK_IMAGES
from experiments.config.check import load_config
from experiments.config.root import Config

CONFIGS = (
    "mnist_cnn",
    "mnist_cnn_tiny",
    "mnist_cnn_best",
    "fashion_mnist_cnn",
    "mnist_vit",
    "char_rnn_shakespeare",
    "lm_char_tiny_shakespeare",
    "lm_char_tiny_shakespeare_best",
    "lm_char_shakespeare",
    "lm_bpe_shakespeare",
    "g2p_fast",
)
"""Configs of one fit that trains for more than a minute."""

PLAIN: dict[str, Any] = {
    "trainer": {
        "dashboard": False,
        "progress_bar": False,
        "limit_val_batches": 1,
        "limit_test_batches": 1,
        "check_val_every_n_steps": None,
        "check_val_every_n_epoch": 10**6,
    }
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configs."""
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="CONFIG", help="configs to measure")
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="steps per turn; a fit has three turns (20)"
    )


def run(options: argparse.Namespace) -> Report:
    """Measure all configs. A repeat is one fit without and one with compilation."""
    repeats = options.repeats or (1 if options.quick else 2)
    steps = options.steps or (1 if options.quick else 20)
    report = Report(title="A fit with and without trainer.compile")
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache):
        for name in ("mnist_mlp",) if options.quick else options.configs:
            experiment = load_config(name, *([QUICK_IMAGES] if options.quick else []), PLAIN)
            plain, compiled = [], []
            for _ in range(repeats):
                plain.append(_fit(experiment, steps, compiled=False))
                compiled.append(_fit(experiment, steps, compiled=True))
            report.rows.append({"config": name, **_row(plain, compiled)})
            print(", ".join(f"{key} {cell}" for key, cell in report.rows[-1].items()), flush=True)
    report.notes = [
        f"{repeats} fits of each kind, 3 turns of {steps} steps each. start: how much longer the first steps "
        "took with compilation and an empty cache; start again: with the cache of the first fit.",
        "fits: estimated seconds of all training steps; compiled with the start of an empty cache.",
    ]
    return report


def _fit(experiment: Config, steps: int, *, compiled: bool) -> StepClock:
    """Train some steps of a config; what an earlier fit has compiled is not in memory any more."""
    torch.compiler.reset()
    clock = StepClock(warmup=max(2, steps // 4), steps=steps, turns=3)
    full_fit(load_config(experiment.plain, f"trainer.compile={str(compiled).lower()}"), clock)
    return clock


def _row(plain: list[StepClock], compiled: list[StepClock]) -> dict[str, Any]:
    step = {"plain": _medians(plain), "compiled": _medians(compiled)}
    starts = [a.warmup_seconds() - b.warmup_seconds() for a, b in zip(compiled, plain, strict=True)]
    seconds = {kind: 1e-3 * step[kind].mean * plain[0].total_steps for kind in step}
    return {
        "step, ms": step["plain"],
        "compiled, ms": step["compiled"],
        "ratio": step["compiled"].ratio_to(step["plain"]),
        "start, s": starts[0],
        "start again, s": starts[-1] if len(starts) > 1 else None,
        "whole fit, s": seconds["plain"],
        "compiled fit, s": seconds["compiled"] + starts[0],
    }


def _medians(clocks: list[StepClock]) -> Sample:
    taken = [clock.milliseconds() for clock in clocks]
    return Sample(tuple(sample.median for sample in taken if sample is not None))
