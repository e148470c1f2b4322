"""Compute lower bounds on the error of a network with F hidden units on synthetic steering pairs.

Prints the lowest possible error of a linear map of rank F, and the error of the map with the best fit to the
training pairs. Given run directories of configs/steering_synthetic.yaml, draws their loss curves above them.

Shape letters: D width, F hidden units, N training pairs.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments import cli
from experiments.errors import UserError, writing
from experiments.studies.finished_runs import find_runs
from experiments.training.curve_file import read_curves

Array = NDArray[np.float64]
Curve = list[tuple[int, float]]


def quarter_circle_floor(width: int, hidden: int) -> float:
    """Compute the energy per output outside the best rank-F approximation of a square normal matrix W.

    For large D the singular values of W / √D follow the quarter-circle law with density √(4 − x²) / π on
    [0, 2]. Substitute x = 2 sin t: a share (2t + sin 2t) / π of the values is below 2 sin t. These values
    hold a share (4t − sin 4t) / (2π) of the energy. The total energy is D per output.

    Args:
        width: D.
        hidden: F.

    Source: Marchenko & Pastur 1967, for a square matrix.
    """
    below, above = 0.0, math.pi / 2
    left_out = max(0.0, 1 - hidden / width)
    for _ in range(60):  # bisection
        t = (below + above) / 2
        if (2 * t + math.sin(2 * t)) / math.pi < left_out:
            below = t
        else:
            above = t
    return width * (4 * below - math.sin(4 * below)) / (2 * math.pi)


def rank_floors(states: Array, weight: Array, hidden: int, noise: float) -> dict[str, float]:
    """Compute held-out errors per output of linear maps of rank F, for new h ~ N(0, I).

    Args:
        states: The h of the training pairs, (N, D).
        weight: W, (D, D). With N > D and little noise, least squares finds practically the same matrix.
        hidden: F.
        noise: Standard deviation σ of the noise.

    Returns:
        `best`: error of the best rank-F approximation of W, the lower bound. `fitted`: error of the rank-F
        map with the lowest training error; it projects the outputs on the directions in which the training
        outputs vary most. `zero`: error of predicting zero.
    """
    width = weight.shape[1]
    energies = np.linalg.eigvalsh(weight.T @ weight)  # ascending squares of the singular values
    outputs = states @ weight
    directions = np.linalg.eigh(outputs.T @ outputs)[1][:, : max(0, width - hidden)]  # varying least
    return {
        "best": float(energies[: max(0, width - hidden)].sum() / width + noise**2),
        "fitted": float(((weight @ directions) ** 2).sum() / width + noise**2),
        "zero": float(energies.sum() / width + noise**2),
    }


def synthetic_floors(
    width: int, size: int, hidden: int, noise: float = 0.01, seed: int = 0
) -> dict[str, float]:
    """Draw W and the training pairs, and compute their bounds and that of the quarter-circle law."""
    generator = np.random.default_rng(seed)
    weight, states = generator.normal(size=(width, width)), generator.normal(size=(size, width))
    law = quarter_circle_floor(width, hidden) + noise**2
    return {"law": law, **rank_floors(states, weight, hidden, noise)}


def loss_curves(run: Path) -> dict[str, Curve]:
    """Read `train/loss` and `val/loss` of a run by step.

    Raises:
        UserError: The run has no `val/loss`.
    """
    curves = {k: v for k, v in read_curves(run).items() if k in ("train/loss", "val/loss")}
    if "val/loss" not in curves:
        raise UserError(f"{run} has no curve of val/loss in its metrics.csv")
    return curves


def draw(curves: Mapping[str, Mapping[str, Curve]], floors: Mapping[str, float], path: Path) -> None:
    """Draw the training loss (thin) and held-out loss of each run, with a horizontal line for each bound."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from experiments.studies.figures import save

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    palette = colormaps["tab10"]
    for number, (name, run) in enumerate(curves.items()):
        steps, losses = zip(*run["val/loss"], strict=True)
        axes.plot(steps, losses, ".-", color=palette(number), label=f"{name}, held out")
        if run.get("train/loss"):
            steps, losses = zip(*run["train/loss"], strict=True)
            axes.plot(steps, losses, color=palette(number), linewidth=1, alpha=0.6, label=f"{name}, training")
    for number, (name, height) in enumerate(floors.items()):
        axes.axhline(
            height,
            color="0.3",
            linestyle=(0, (4, 1 + 2 * number)),
            linewidth=1,
            label=f"{name}: {height:.1f}",
        )
    axes.set_xlabel("step")
    axes.set_ylabel("squared error per output")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def named_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Find the runs of networks in run and study directories, by name of their variant.

    Raises:
        UserError: A directory is missing, or no directory holds a run.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such directory")
        for run in find_runs(folder):
            if (run / "metrics.csv").is_file():  # a baseline has no curve
                name = run.parent.name if run.name.startswith("seed_") else run.name
                found[name if name not in found else f"{name} {len(found) + 1}"] = run
    if folders and not found:
        raise UserError(f"no run with a metrics.csv in {', '.join(map(str, folders))}")
    return found


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = cli.parser("steering.floor", __doc__)
    add = parser.add_argument
    add("runs", nargs="*", type=cli.path, metavar="RUN", help="run or study directories to draw")
    add("--width", type=int, default=2048, metavar="D", help="width of a vector; default: 2048")
    add("--size", type=int, default=10_000, metavar="N", help="training pairs; default: 10000")
    add("--hidden", type=int, default=1024, metavar="F", help="hidden units; default: 1024")
    add("--noise", type=float, default=0.01, metavar="SIGMA", help="standard deviation; default: 0.01")
    add(
        "--output",
        type=cli.path,
        default=Path("steering_floor.png"),
        metavar="FILE",
        help="the PNG file; default: steering_floor.png",
    )
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Print the bounds and draw the runs; see `--help`."""
    options = build_parser().parse_args(arguments)
    if min(options.width, options.hidden) < 1 or options.size <= options.width:
        raise UserError(
            f"--width {options.width}, --hidden {options.hidden} and --size {options.size}: --width and "
            "--hidden must be at least 1, and --size greater than --width"
        )
    runs = named_runs(options.runs)
    curves = {name: loss_curves(run) for name, run in runs.items()}
    floors = synthetic_floors(options.width, options.size, options.hidden, options.noise)
    said = {
        f"rank {options.hidden}, by the quarter-circle law": floors["law"],
        f"rank {options.hidden}, best approximation of a drawn W": floors["best"],
        f"rank {options.hidden}, best fit to {options.size} pairs": floors["fitted"],
        "predicting zero": floors["zero"],
    }
    for name, value in said.items():
        print(f"{name}: {value:.1f}")
    if curves:
        law, _, fitted, _ = said
        draw(curves, {fitted: said[fitted], law: said[law]}, options.output)
        print(f"drawn: {options.output}")


if __name__ == "__main__":
    sys.exit(main(None))
