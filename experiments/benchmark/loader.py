"""Time per training sample: the resident loader, and per-sample torchvision transforms with a DataLoader.

Batches are drawn epoch after epoch, so that the time of shuffling is included, as in training.
"""

import argparse
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from datamodules.configs.mnist import AugmentConfig
from datamodules.images.classic_pipeline import SingleImages, classic_transform
from experiments.benchmark.classic_mnist import Batches
from experiments.benchmark.harness import Report, endless, interleaved, positive, timed
from experiments.config.check import load_config
from experiments.training.build import build_data

CLASSIC, PER_SAMPLE, RESIDENT = (
    "torchvision + DataLoader",
    "data.pipeline=torchvision",
    "data.pipeline=resident",
)
AUGMENTATIONS = {"none": {}, "as in mnist_cnn": {"shift": 2, "rotation": 10, "scale": 0.1}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the batch size."""
    parser.add_argument("--batch-size", type=positive, default=64, metavar="B", help="samples per batch (64)")


def run(options: argparse.Namespace) -> Report:
    """Measure each pipeline with and without augmentation, on MNIST (quick: scikit-learn's digits)."""
    repeats = options.repeats or (2 if options.quick else 7)
    data = "digits" if options.quick else "mnist"
    report = Report(title=f"Loading {data}, batches of {options.batch_size}")
    for label, augment in AUGMENTATIONS.items():
        loaders = pipelines(data, options.batch_size, augment)
        # A slow pipeline draws fewer batches, so that all turns take about the same time.
        counts = {name: 4 if options.quick else 800 if name == RESIDENT else 40 for name in loaders}
        draws = {name: timed(_drawing(loader, counts[name])) for name, loader in loaders.items()}
        taken = interleaved(draws, repeats=repeats)
        per_sample = {
            name: seconds.scaled(1e6 / (counts[name] * options.batch_size)) for name, seconds in taken.items()
        }
        for name, microseconds in per_sample.items():
            report.rows.append(
                {
                    "pipeline": name,
                    "augmentation": label,
                    "µs per sample": microseconds,
                    "times as fast": per_sample[CLASSIC].ratio_to(microseconds),
                }
            )
    report.notes = [
        f"{repeats} turns; {CLASSIC} does no seeding per sample and cannot be resumed.",
        f"One process with {torch.get_num_threads()} threads; workers would take threads from training.",
    ]
    return report


def pipelines(data: str, batch_size: int, augment: dict[str, float]) -> dict[str, Batches]:
    """Return three loaders of the same training split."""
    served: dict[str, Batches] = {}
    for name, pipeline in ((PER_SAMPLE, "torchvision"), (RESIDENT, "resident")):
        section = {"name": data, "batch_size": batch_size, "drop_last": True, "pipeline": pipeline}
        module = build_data(load_config({"model": {"name": "mlp"}, "data": {**section, "augment": augment}}))
        served[name] = module.train_dataloader()
    images, targets = module.split("train")
    changes = AugmentConfig(**augment) if augment else None  # type: ignore[arg-type]
    transform = classic_transform(
        changes, module.mean, module.std, height=images.shape[2], width=images.shape[3]
    )
    samples = SingleImages(images, targets, transform)
    plain = DataLoader(samples, batch_size=batch_size, shuffle=True, drop_last=True)
    return {CLASSIC: plain, **served}


def _drawing(loader: Batches, count: int) -> Callable[[], None]:
    batches = endless(loader)

    def draw() -> None:
        for _ in range(count):
            next(batches)

    return draw
