"""Draw the figures of a steering chain: margins by stage and by factor, and a projection of the vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from experiments.steering.methods import Pairs
from experiments.studies.figures import save


def layers(margins: Mapping[str, float], stages: Sequence[str], methods: Sequence[str], path: Path) -> None:
    """Draw a heat map of `margins["STAGE/METHOD"]`."""
    values = np.array([[margins[f"{stage}/{method}"] for stage in stages] for method in methods])
    figure = _figure(1.5 + 1.1 * len(stages), 1.5 + 0.5 * len(methods))
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(stages)), list(stages), rotation=30, ha="right")
    axes.set_yticks(range(len(methods)), list(methods))
    for row, column in np.ndindex(values.shape):
        axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color="w", fontsize=8)
    figure.colorbar(image, label="margin, nats per token")
    save(figure, path)


def factors(curves: Mapping[str, Mapping[float, float]], path: Path) -> None:
    """Draw the margin over the factor α, one line for each method."""
    figure = _figure(7, 4.5)
    axes = figure.add_subplot()
    for number, (method, curve) in enumerate(curves.items()):
        places = sorted(curve)
        axes.plot(places, [curve[a] for a in places], ".-", color=colormaps["tab10"](number), label=method)
    axes.set_xlabel("α")
    axes.set_ylabel("log p(wanted) − log p(unwanted), nats per token")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save(figure, path)


def projection(pairs: Pairs, path: Path) -> None:
    """Draw the vectors that are not neutral on their first two principal components.

    Colors show the families, or the instantiations if there is only one family.
    """
    chosen = pairs.steered
    vectors = pairs.z[chosen].float()
    families = [f for f, kept in zip(pairs.families, chosen.tolist(), strict=True) if kept]
    if len(set(families)) == 1:
        families = [i for i, kept in zip(pairs.instantiations, chosen.tolist(), strict=True) if kept]
    centred = vectors - vectors.mean(0)
    places = (centred @ torch.linalg.svd(centred, full_matrices=False)[2][:2].T).numpy()  # (N, 2)
    figure = _figure(6.5, 5)
    axes = figure.add_subplot()
    colours = colormaps["tab10" if len(set(families)) <= 10 else "tab20"]
    for number, family in enumerate(dict.fromkeys(families)):
        own = places[[f == family for f in families]]
        axes.plot(own[:, 0], own[:, 1], ".", markersize=4, color=colours(number), label=family)
    axes.set_xlabel("first component")
    axes.set_ylabel("second component")
    axes.legend(fontsize="small")
    save(figure, path)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
