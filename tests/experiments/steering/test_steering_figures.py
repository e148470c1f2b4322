"""What the pictures are drawn of, read back from the figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from experiments.steering import steering_figures
from experiments.steering.methods import Pairs


@pytest.fixture(name="drawn")
def _drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure, as it is made."""
    made: list[Figure] = []
    make = steering_figures._figure

    def kept(*size: float) -> Figure:
        made.append(make(*size))
        return made[-1]

    monkeypatch.setattr(steering_figures, "_figure", kept)
    return made


def labels(figure: Figure) -> list[str]:
    legend: Any = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()]


def test_the_heat_map_has_a_row_a_method_and_a_column_a_stage(drawn: list[Figure], tmp_path: Path) -> None:
    margins = {"one/l2s": 1.0, "one/mean": 0.5, "two/l2s": -1.0, "two/mean": 0.25}
    steering_figures.layers(margins, ["one", "two"], ["l2s", "mean"], tmp_path / "layers.png")
    (image,) = drawn[0].axes[0].images
    assert np.asarray(image.get_array()).tolist() == [[1.0, -1.0], [0.5, 0.25]]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["1.00", "-1.00", "0.50", "0.25"]
    assert (tmp_path / "layers.png").stat().st_size > 1000


def test_factors_are_drawn_in_order(drawn: list[Figure], tmp_path: Path) -> None:
    steering_figures.factors(
        {"l2s": {1.0: 3.0, 0.5: 2.0}, "mean": {0.5: 0.0, 1.0: 1.0}}, tmp_path / "alphas.png"
    )
    first, second = drawn[0].axes[0].lines
    assert np.asarray(first.get_xydata()).tolist() == [[0.5, 2.0], [1.0, 3.0]]
    assert np.asarray(second.get_xydata()).tolist() == [[0.5, 0.0], [1.0, 1.0]]
    assert labels(drawn[0]) == ["l2s", "mean"]


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        (["medical", "medical", "legal", "neutral"], ["medical", "legal"]),
        (["advice", "advice", "advice", "neutral"], ["skin", "heart", "rent"]),
    ],
)
def test_the_projection_is_onto_the_main_directions_and_tells_groups_apart(
    families: list[str], expected: list[str], drawn: list[Figure], tmp_path: Path
) -> None:
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 4, 1, 1, 1, 1])
    z[3::4] = 0  # neutral
    pairs = Pairs(
        h=torch.zeros(40, 6),
        z=z,
        instantiations=["skin", "heart", "rent", "as_it_is"] * 10,
        families=families * 10,
    )
    steering_figures.projection(pairs, tmp_path / "projection.png")
    assert labels(drawn[0]) == expected
    places = np.concatenate([np.asarray(line.get_xydata()) for line in drawn[0].axes[0].lines])
    theirs = PCA(2).fit_transform(z[z.abs().sum(1) > 0].numpy())
    for ours, other in zip(np.abs(places).T, np.abs(theirs).T, strict=True):
        np.testing.assert_allclose(np.sort(ours), np.sort(other), rtol=1e-3, atol=1e-3)
