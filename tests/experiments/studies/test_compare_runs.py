import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from experiments.config.comparison import ComparisonConfig
from experiments.errors import UserError
from experiments.studies import comparison_figure
from experiments.studies.compare_runs import compare_runs
from experiments.studies.comparison import direction_of
from experiments.studies.comparison_figure import finite_curves
from experiments.training.confusion import Confusion


def make_run(path: Path, metrics: dict | None, *, config: str | None = None, curve: str = "") -> Path:
    path.mkdir(parents=True)
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    if config is not None:
        (path / "config.yaml").write_text(config, encoding="utf-8")
    if curve:
        (path / "metrics.csv").write_text(f"step,epoch,name,value\n{curve}", encoding="utf-8")
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two variants × 3 seeds, one of them with a run that failed, and a baseline."""
    root = tmp_path / "study"
    root.mkdir()
    (root / "config.yaml").write_text("name: study\nvariants: {shallow: {}, deep: {}}\n", encoding="utf-8")
    for seed, (accuracy, seconds) in enumerate([(0.90, 10.0), (0.92, 11.0), (0.94, 12.0)]):
        metrics = {
            "test/accuracy": accuracy,
            "test/loss": 1 - accuracy,
            "fit_seconds": seconds,
            "parameters": 10,
        }
        curve = f"1,0,val/accuracy,0.5\n2,1,val/accuracy,{accuracy}\n1,0,train/loss,3\n"
        make_run(root / "depth_4" / f"seed_{seed}", metrics, config="name: study\n", curve=curve)
    for seed, accuracy in enumerate([0.95, 0.97]):
        make_run(root / "depth_16" / f"seed_{seed}", {"test/accuracy": accuracy, "test/loss": math.nan})
    failed = make_run(root / "depth_16" / "seed_2", None, config="name: study\n")
    (failed / "failed.json").write_text('{"error": "the loss\\nis NaN"}', encoding="utf-8")
    make_run(root / "majority", {"test/accuracy": 0.1, "fit_seconds": 0.5, "note": "text", "flag": True})
    return root


def test_groups_are_the_variants_in_the_order_people_count(study: Path) -> None:
    comparison = compare_runs([study])
    assert [group.name for group in comparison.groups] == ["depth_4", "depth_16", "majority"]
    assert [len(group.runs) for group in comparison.groups] == [3, 3, 1]
    assert comparison.columns == ["test/accuracy", "test/loss", "fit_seconds", "parameters"]


def test_confusion_matrices_are_added_up_over_a_groups_runs(study: Path) -> None:
    for seed in range(3):
        counts = ((seed, 1), (2, 3))
        Confusion(class_names=("cat", "dog"), counts=counts).write(study / "depth_4" / f"seed_{seed}")
    Confusion(class_names=("cat", "dog"), counts=((1, 0), (0, 1))).write(study / "depth_16" / "seed_0")
    Confusion(class_names=("cat", "dog"), counts=((4, 0), (4, 0))).write(study / "majority")
    written = compare_runs([study]).markdown()
    assert "\ndepth_4, test, 3 runs summed:\n\n| true \\ predicted | cat | dog |" in written
    assert "| cat | 3 | 3 | 50.0 % |\n| dog | 6 | 9 | 60.0 % |" in written
    assert "\nmajority, test, 1 run summed:\n" in written
    assert "depth_16, test" not in written  # one of its runs has none


def test_mean_and_spread_agree_with_torch(study: Path) -> None:
    group = compare_runs([study]).groups[0]
    reference = torch.tensor([0.90, 0.92, 0.94], dtype=torch.float64)
    assert group.mean("test/accuracy") == pytest.approx(reference.mean().item())
    assert group.std("test/accuracy") == pytest.approx(reference.std(correction=1).item())
    assert group.text("test/accuracy") == "0.920 ± 0.020"
    assert group.text("parameters") == "10"


def test_best_follows_the_direction_and_asks_for_every_run(study: Path) -> None:
    comparison = compare_runs([study])
    shallow, deep, majority = comparison.groups
    assert comparison.is_best(shallow, "test/accuracy")  # the deep one's 0.96 is a mean of survivors
    assert deep.text("test/accuracy").endswith("(2 of 3 runs)")
    assert comparison.is_best(majority, "fit_seconds")
    assert not any(comparison.is_best(group, "parameters") for group in comparison.groups)
    assert deep.text("test/loss") == "–"
    assert comparison.failures() == [f"{study / 'depth_16' / 'seed_2'}: the loss is NaN"]


def test_success_is_counted_and_its_interval_is_wilsons(tmp_path: Path) -> None:
    from scipy.stats import binomtest

    counts = {"some": (14, 20), "all": (20, 20), "none": (0, 7)}
    for name, (successes, runs) in counts.items():
        for seed in range(runs):
            make_run(tmp_path / name / f"seed_{seed}", {"test/success": float(seed < successes)})
    comparison = compare_runs([tmp_path])
    for group in comparison.groups:
        successes, runs = counts[Path(group.name).name]
        interval = binomtest(successes, runs).proportion_ci(method="wilson")
        low, high = (f"{100 * limit:.0f}" for limit in interval)
        assert group.text("test/success") == f"{successes} of {runs} ({low}–{high} %)"
    best = [group.name for group in comparison.groups if comparison.is_best(group, "test/success")]
    assert best == ["all"]
    assert "for success, the count" in comparison.markdown()


def test_success_that_is_a_share_of_many_or_of_one_run_is_no_count(tmp_path: Path) -> None:
    for seed, share in enumerate([0.5, 1.0]):
        make_run(tmp_path / "shares" / f"seed_{seed}", {"test/success": share})
    make_run(tmp_path / "one", {"test/success": 1.0})
    shares, one = compare_runs([tmp_path / "shares", tmp_path / "one"]).groups
    assert shares.text("test/success") == "0.75 ± 0.35"
    assert one.text("test/success") == "1"


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("test/accuracy", 1),
        ("val/f1_macro", 1),
        ("test/auc", 1),
        ("samples_per_second", 1),
        ("test/loss", -1),
        ("test/top5_error", -1),
        ("perplexity", -1),
        ("fit_seconds", -1),
        ("parameters", 0),
        ("test/glossary", 0),
    ],
)
def test_direction(metric: str, direction: int) -> None:
    assert direction_of(metric) == direction


@pytest.mark.slow
def test_files(study: Path, tmp_path: Path) -> None:
    compare_runs([study], tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["variant"], row["metric"]): row for row in csv.DictReader(file)}
    shallow = rows["depth_4", "test/accuracy"]
    assert float(shallow["mean"]) == pytest.approx(0.92)
    assert [float(value) for value in shallow["values"].split()] == [0.90, 0.92, 0.94]
    assert (shallow["runs"], shallow["failed"], shallow["best"]) == ("3", "0", "1")
    assert rows["depth_16", "test/loss"]["mean"] == ""
    assert rows["depth_16", "test/loss"]["values"] == "nan nan"
    assert rows["depth_16", "test/accuracy"]["failed"] == "1"
    assert ("majority", "note") not in rows
    markdown = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "| depth_4 | 3 | **0.920 ± 0.020** |" in markdown
    assert "seed_2: the loss is NaN" in markdown
    with Image.open(tmp_path / "out" / "comparison.png") as image:
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 50


def test_table_has_the_best_in_bold(study: Path) -> None:
    console = Console(width=200, force_terminal=True, color_system="truecolor", no_color=True)
    with console.capture() as capture:
        console.print(compare_runs([study]).table())
    bold = re.findall(r"\x1b\[1m([^\x1b]*\d[^\x1b]*)\x1b", capture.get())
    assert [text.strip() for text in bold] == ["0.920 ± 0.020", "0.080 ± 0.020", "0.5"]


def test_comparing_a_study_twice_gives_the_same(study: Path) -> None:
    """Its own comparison lies in the study's folder and isn't taken for a run."""
    first = compare_runs([study], study).markdown()
    assert compare_runs([study, study / "depth_4"], study).markdown() == first


def test_runs_outside_a_study_are_grouped_by_name_and_by_what_else_differs(tmp_path: Path) -> None:
    for number, (name, seed, lr) in enumerate(
        [("cnn", 0, 0.1), ("cnn", 1, 0.1), ("cnn", 0, 0.2), ("mlp", 0, 0.1)]
    ):
        config = f"name: {name}\nseed: {seed}\noptimizer:\n  lr: {lr}\n"
        make_run(tmp_path / "runs" / name / f"time-{number}", {"test/accuracy": 0.5}, config=config)
    groups = {group.name: len(group.runs) for group in compare_runs([tmp_path / "runs"]).groups}
    assert groups == {"cnn optimizer.lr=0.1": 2, "cnn optimizer.lr=0.2": 1, "mlp": 1}


def test_variants_of_two_studies_are_told_apart(tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_run(tmp_path / name / "a" / "seed_0", {"test/accuracy": 0.5})
    names = [group.name for group in compare_runs([tmp_path / "first", tmp_path / "second"]).groups]
    assert names == ["first/a", "second/a"]
    assert [group.name for group in compare_runs([tmp_path / "second" / "a" / "seed_0"]).groups] == ["a"]


def test_a_damaged_file_fails_its_run_alone(study: Path) -> None:
    (study / "depth_4" / "seed_0" / "metrics.json").write_text('{"test/accuracy": 0.', encoding="utf-8")
    (study / "depth_4" / "seed_1" / "config.yaml").write_text("a: [", encoding="utf-8")
    comparison = compare_runs([study])
    assert any("metrics.json cannot be read" in line for line in comparison.failures())
    assert len(comparison.groups[0].values("test/accuracy")) == 2


def test_a_variant_of_which_nothing_came_is_listed_as_failed(study: Path, tmp_path: Path) -> None:
    broken = make_run(study / "broken", None)
    (broken / "failed.json").write_text('{"exit_status": 1}', encoding="utf-8")
    comparison = compare_runs([study], tmp_path / "out")
    assert f"{broken}: exit status 1, see its run.log" in comparison.failures()
    group = next(group for group in comparison.groups if group.name == "broken")
    assert group.text("test/accuracy") == "failed"
    assert "| broken | 1 | failed |" in comparison.markdown()
    assert "broken,,,,1,1,0," in (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8")


def test_columns_choose_by_pattern(study: Path) -> None:
    assert compare_runs([study], columns=["fit_*", "test/loss", "fit_seconds"]).columns == [
        "fit_seconds",
        "test/loss",
    ]
    with pytest.raises(
        UserError, match="no metric matches nonesuch; there are fit_seconds, parameters, test/"
    ):
        compare_runs([study], columns=["nonesuch"])


def test_curves_end_where_the_file_was_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {}, curve="1,0,val/loss,2\n2,0,val/loss,inf\n3,0,val/loss,1\n4,0,val/lo")
    ((steps_and_values),) = finite_curves(run).values()
    assert [step for step, _ in steps_and_values] == [1, 2, 3]
    assert math.isnan(steps_and_values[1][1])
    assert finite_curves(tmp_path) == {}


# --------------------------------------------------------------------------------- the settings of the report


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, with no file of their own."""
    figures: list[Figure] = []
    monkeypatch.setattr(comparison_figure, "save", lambda figure, path: figures.append(figure))
    return figures


SETTINGS = "{columns: [test/loss], panels: [], curves: [train/*, val/*], log_y: true, share_y: true}"


def test_a_saved_study_is_reported_as_its_config_says(study: Path, drawn: list[Figure]) -> None:
    config = study / "config.yaml"
    config.write_text(config.read_text() + f"comparison: {SETTINGS}\n")
    assert compare_runs([study], study).columns == ["test/loss"]
    train, val = drawn[0].axes
    assert [axes.get_title() for axes in (train, val)] == ["train/loss", "val/accuracy"]
    assert (train.get_yscale(), train.get_xscale(), train.get_xlabel()) == ("log", "linear", "step")
    assert train.get_ylim() == val.get_ylim()
    # The command line wins over the config, and several studies have no common settings.
    assert compare_runs([study], columns=["parameters"]).columns == ["parameters"]
    assert len(compare_runs([study, study / "majority"]).columns) == 4
    config.write_text("comparison: {curve: [a]}\n")
    with pytest.raises(UserError, match=r"unknown key comparison\.curve .*did you mean curves"):
        compare_runs([study])


def test_panels_are_chosen_apart_from_columns(study: Path, drawn: list[Figure]) -> None:
    settings = ComparisonConfig(columns=["test/*"], panels=["fit_seconds"], curves=[])
    assert compare_runs([study], study, settings).columns == ["test/accuracy", "test/loss"]
    assert [axes.get_title() for axes in drawn[0].axes] == ["fit_seconds"]


def test_a_baseline_is_a_dashed_line_in_the_curves_of_its_metric(tmp_path: Path, drawn: list[Figure]) -> None:
    curve = "1,0,val/loss,3\n2,1,val/loss,2\n1,0,train/loss,3\n2,1,train/loss,1\n"
    make_run(tmp_path / "a" / "seed_0", {"val/loss": 2.0}, curve=curve)
    make_run(tmp_path / "mean", {"val/loss": 2.5})
    compare_runs([tmp_path], tmp_path, ComparisonConfig(columns=["val/loss"], panels=[], curves=["*/loss"]))
    train, val = drawn[0].axes
    dashed = [line for line in val.get_lines() if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [[2.5, 2.5]]
    assert [line for line in train.get_lines() if line.get_linestyle() == "--"] == []
    assert train.get_legend() is None
    assert val.get_legend() is None
    (legend,) = drawn[0].legends  # outside of the panels, where it covers no curve
    assert [text.get_text() for text in legend.get_texts()] == ["a", "mean"]


def test_a_curve_by_position_is_labelled_so(tmp_path: Path, drawn: list[Figure]) -> None:
    make_run(
        tmp_path / "a",
        {"test/loss": 2.0},
        curve="8,1,test/loss_by_position,3\n16,1,test/loss_by_position,2\n",
    )
    settings = ComparisonConfig(panels=[], curves=["test/loss_by_position"], x="position")
    compare_runs([tmp_path], tmp_path, settings)
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "position"
    assert [list(map(float, line.get_xdata())) for line in axes.get_lines()] == [[8, 16], [8, 16]]


def test_a_curve_over_epochs_is_the_mean_of_each(tmp_path: Path) -> None:
    curve = "1,0,train/loss,4\n2,0,train/loss,2\n2,0,val/loss,5\n3,1,train/loss,1\n4,1,val/loss,3\n"
    run = make_run(tmp_path / "a", {}, curve=curve)
    assert finite_curves(run, "epoch") == {
        "train/loss": [(1, 3.0), (2, 1.0)],
        "val/loss": [(1, 5.0), (2, 3.0)],
    }
    assert finite_curves(run)["train/loss"] == [(1, 4.0), (2, 2.0), (3, 1.0)]


def fit(path: Path, loss: float, test: float, **trainer: object) -> Path:
    settings = {"monitor": "val/loss", "monitor_mode": "min", **trainer}
    config = json.dumps({"name": path.name.rstrip("0123456789"), "trainer": settings})
    metrics = {"val/loss": loss, "test/loss": test, "test/accuracy": 0.5, "fit_seconds": 1}
    return make_run(path, metrics, config=config)


def test_the_best_is_chosen_by_validation_which_stands_beside_the_test(tmp_path: Path) -> None:
    fit(tmp_path / "a", 0.2, 0.1)
    fit(tmp_path / "b", 0.1, 0.2)
    make_run(tmp_path / "majority", {"val/loss": 0.01, "test/loss": 0.01}, config="name: majority\n")
    comparison = compare_runs([tmp_path], tmp_path)
    assert comparison.columns == ["test/accuracy", "val/loss", "test/loss", "fit_seconds"]
    assert (comparison.winner, comparison.monitor) == ("b", "val/loss")
    text = (tmp_path / "comparison.md").read_text()
    assert "| b ← |" in text
    assert "← best by val/loss." in text
    fit(tmp_path / "c", 0.0, 0.0, monitor="val/accuracy")
    assert compare_runs([tmp_path]).winner is None  # they did not watch the same metric


def test_a_higher_metric_can_be_the_better_one(tmp_path: Path) -> None:
    for name, value in (("a", 0.2), ("b", 0.1)):
        fit(tmp_path / name, value, 0.0, monitor_mode="max")
    assert compare_runs([tmp_path]).winner == "a"


def test_runs_that_differ_in_how_they_were_shown_are_one_group(tmp_path: Path) -> None:
    fit(tmp_path / "run1", 0.2, 0.1, progress_bar=True, dashboard=True, profiler=None)
    fit(tmp_path / "run2", 0.2, 0.1, progress_bar=False, dashboard=False, profiler="simple")
    assert [(g.name, len(g.runs)) for g in compare_runs([tmp_path]).groups] == [("run", 2)]


def test_an_axis_is_logarithmic_where_the_values_span_decades(tmp_path: Path, drawn: list[Figure]) -> None:
    curve = "1,0,val/loss,10\n2,1,val/loss,0.05\n1,0,val/accuracy,0.5\n2,1,val/accuracy,0.9\n"
    make_run(tmp_path / "a", {"test/loss": 0.001, "test/error": 0.2}, curve=curve)
    make_run(tmp_path / "b", {"test/loss": 0.2, "test/error": 0.3}, curve=curve)
    compare_runs([tmp_path], tmp_path)
    scales = {axes.get_title(): (axes.get_xscale(), axes.get_yscale()) for axes in drawn[0].axes}
    assert scales == {
        "test/error": ("linear", "linear"),
        "test/loss": ("log", "linear"),
        "val/accuracy": ("linear", "linear"),
        "val/loss": ("linear", "log"),
    }


def test_the_curves_of_the_figure_can_be_chosen(study: Path) -> None:
    sizes = []
    for curves in (["train/loss"], ["train/loss", "val/accuracy"]):
        compare_runs([study], study, columns=["test/accuracy"], curves=curves)
        with Image.open(study / "comparison.png") as picture:
            sizes.append(picture.size[0])
    assert sizes[0] < sizes[1]
