"""The picture of one fit shows training and validation in two colours."""

from typing import Any

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import experiments
from experiments.studies import fit_figure
from experiments.studies.compare_runs import compare_runs
from experiments.studies.finished_runs import read_run
from experiments.training.curve_file import read_curves


def panels(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn from now on."""
    saved: list[Figure] = []
    monkeypatch.setattr(fit_figure, "save", lambda figure, path: saved.append(figure))
    return saved


def test_a_panel_has_training_validation_and_test(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = experiments.run(tiny)
    saved = panels(monkeypatch)
    fit_figure.draw_fit(read_run(result.run_dir), result.run_dir / "x.png")
    (figure,) = saved
    curves = read_curves(result.run_dir)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    for axes in figure.axes:
        training, validation, test = axes.lines
        name = axes.get_title()
        for line, stage in ((training, "train"), (validation, "val")):
            steps, values = zip(*curves[f"{stage}/{name}"], strict=True)
            assert tuple(line.get_xdata()) == steps
            assert tuple(line.get_ydata()) == values
        assert to_rgba(training.get_color()) != to_rgba(validation.get_color())
        assert test.get_ydata()[0] == result.metrics[f"test/{name}"]
        assert [text.get_text() for text in axes.get_legend().get_texts()][:2] == ["training", "validation"]


def test_the_comparison_of_a_single_run_is_this_picture(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = experiments.run(tiny)
    saved = panels(monkeypatch)
    compare_runs([result.run_dir], result.run_dir)
    assert len(saved) == 1
