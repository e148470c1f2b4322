"""The panels of a comparison's figure: their number, their axes, and the points they show."""

import json
from pathlib import Path

import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.config.check import load_config
from experiments.config.comparison import ComparisonConfig
from experiments.errors import UserError
from experiments.studies import comparison_figure
from experiments.studies.compare_runs import compare_runs


def make_run(path: Path, curve: str) -> None:
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(json.dumps({"test/loss": 1.0, "test/accuracy": 0.5}), encoding="utf-8")
    (path / "metrics.csv").write_text(f"step,epoch,name,value\n{curve}", encoding="utf-8")


@pytest.fixture
def panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Panels":
    return Panels(tmp_path, monkeypatch)


class Panels:
    """Draws the runs of a folder and returns the panels."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.drawn: list[Figure] = []
        monkeypatch.setattr(comparison_figure, "save", lambda figure, path: self.drawn.append(figure))

    def __call__(self, **settings: object) -> list[Axes]:
        """Draw with these settings; without any panel of final metrics if none is asked for."""
        compare_runs([self.folder], self.folder, ComparisonConfig(**{"panels": [], **settings}))  # type: ignore[arg-type]
        return self.drawn[-1].axes


def mean_line(axes: Axes) -> list[tuple[float, float]]:
    """The points of the thick line of the first group."""
    line = next(line for line in axes.get_lines() if line.get_linewidth() == 2)
    return [(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]


RATES = "10,0,train/steps_per_second,{}\n20,0,train/steps_per_second,{}\n"
LOSSES = "10,0,train/loss,4\n15,0,val/loss,3\n20,0,train/loss,2\n30,1,val/loss,1\n"


def test_seconds_add_up_from_the_rates_of_the_steps(panels: Panels) -> None:
    make_run(panels.folder / "a" / "seed_0", RATES.format(10.0, 5.0) + LOSSES)
    train, val = panels(curves=["train/loss", "val/loss"], x="second")
    assert train.get_xlabel() == "second"
    # 10 steps at 10 a second, then 10 at 5 a second; after the last point the last rate goes on.
    assert mean_line(train) == [(1.0, 4.0), (3.0, 2.0)]
    assert mean_line(val) == [(2.0, 3.0), (5.0, 1.0)]


def test_runs_of_a_group_share_their_mean_seconds(panels: Panels) -> None:
    make_run(panels.folder / "a" / "seed_0", RATES.format(10.0, 10.0) + LOSSES)
    make_run(panels.folder / "a" / "seed_1", RATES.format(2.5, 5.0) + LOSSES.replace(",4", ",6"))
    (train,) = panels(curves=["train/loss"], x="second")
    assert mean_line(train) == [(2.5, 5.0), (4.0, 2.0)]


def test_a_run_without_rates_has_no_curve_over_seconds(panels: Panels) -> None:
    make_run(panels.folder / "a" / "seed_0", LOSSES)
    by_step, by_second = panels(curves=["train/loss"], x=["step", "second"])
    assert mean_line(by_step) == [(10.0, 4.0), (20.0, 2.0)]
    assert list(by_second.get_lines()) == []


def test_each_axis_of_a_list_has_a_panel(panels: Panels) -> None:
    make_run(panels.folder / "a" / "seed_0", RATES.format(10.0, 5.0) + LOSSES)
    drawn = panels(curves=["*/loss"], x=["step", "epoch"], panels=["test/loss"])
    assert [(axes.get_title(), axes.get_xlabel()) for axes in drawn] == [
        ("test/loss", ""),
        ("train/loss", "step"),
        ("train/loss", "epoch"),
        ("val/loss", "step"),
        ("val/loss", "epoch"),
    ]
    assert mean_line(drawn[2]) == [(1.0, 3.0)]


def test_an_unknown_axis_is_refused() -> None:
    for axis in ("[step, minute]", "minute"):
        with pytest.raises(UserError, match=r"comparison\.x = .* allowed: step, epoch, second"):
            load_config("digits_study", f"comparison.x={axis}")


def test_a_measurement_of_each_layer_is_drawn_over_the_layers(panels: Panels) -> None:
    curve = "".join(
        f"{step},0,layer_gradient/{layer:02},{step * layer}\n"
        for step in (1, 5, 10)
        for layer in range(1, 13)
    )
    make_run(panels.folder / "a" / "seed_0", curve)
    first, last = panels(curves=[], by_layer=["layer_gradient", "not_measured"], log_y=True)
    assert [axes.get_title() for axes in (first, last)] == [
        "layer_gradient, first point",
        "layer_gradient, last point",
    ]
    assert (first.get_xlabel(), first.get_yscale()) == ("layer", "log")
    assert mean_line(first) == [(layer, layer) for layer in range(1, 13)]
    assert mean_line(last) == [(layer, 10 * layer) for layer in range(1, 13)]


@pytest.mark.parametrize(
    ("metrics", "curves", "rows"), [(0, 1, 1), (1, 2, 1), (2, 2, 2), (1, 4, 2), (2, 4, 2)]
)
def test_panels_fill_their_rows(panels: Panels, metrics: int, curves: int, rows: int) -> None:
    make_run(panels.folder / "a" / "seed_0", "".join(f"1,0,c/{n},1\n" for n in range(curves)))
    drawn = panels(panels=["test/accuracy", "test/loss"][:metrics], curves=["c/*"])
    grid = drawn[0].get_subplotspec().get_gridspec()  # type: ignore[union-attr]
    assert len(drawn) == metrics + curves
    assert grid.nrows == rows
    assert grid.nrows * grid.ncols - len(drawn) <= 1  # at most one place stays empty


def test_a_curve_by_class_or_confidence_has_its_own_axis(panels: Panels) -> None:
    curve = "0,3,test/recall_by_class,0.5\n1,3,test/recall_by_class,1\n95,3,test/accuracy_by_confidence,0.9\n"
    make_run(panels.folder / "a" / "seed_0", curve + "10,0,train/loss,4\n")
    found = {axes.get_title(): axes for axes in panels(curves=["test/*", "train/loss"], x="epoch")}
    assert found["train/loss"].get_xlabel() == "epoch"
    assert mean_line(found["test/recall_by_class"]) == [(0.0, 0.5), (1.0, 1.0)]
    assert found["test/recall_by_class"].get_xlabel() == "class"
    assert mean_line(found["test/accuracy_by_confidence"]) == [(95.0, 0.9)]
    lines = found["test/accuracy_by_confidence"].get_lines()
    assert [list(line.get_data()[1]) for line in lines if line.get_linestyle() == ":"] == [[0, 1]]
    assert not [line for line in found["train/loss"].get_lines() if line.get_linestyle() == ":"]


def test_twenty_groups_have_twenty_colours() -> None:
    assert len({comparison_figure._colour(number) for number in range(20)}) == 20
    assert comparison_figure._colour(3) == colormaps["tab10"](3)


@pytest.mark.parametrize("curves", [1, 2, 3])
def test_the_legend_covers_no_curve(panels: Panels, curves: int) -> None:
    """It is in the free place, or below the panels."""
    for name in ("a", "b"):
        rows = "".join(f"{step},0,loss_{k},{4**step}\n" for step in range(5) for k in range(curves))
        make_run(panels.folder / name / "seed_0", rows)
    axes = panels(curves=["loss_*"], panels=["test/loss", "test/accuracy"])
    figure = panels.drawn[-1]
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(panel.get_window_extent()) for panel in axes)
