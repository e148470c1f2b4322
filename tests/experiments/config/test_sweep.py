"""A sweep names settings with lists or ranges; every end of them is checked before a fit begins."""

import pytest

from experiments.config.check import load_config
from experiments.config.sweep import Dimension
from experiments.errors import UserError

BASE = {"model.name": "mlp", "data.name": "digits"}


def test_lists_are_a_grid_and_ranges_are_drawn() -> None:
    grid = load_config(
        BASE, "sweep.optimizer.lr=[0.1,0.2]", {"sweep": {"model": {"hidden": [[8], [16], []]}}}
    )
    assert grid.form == "sweep"
    assert (grid.sweep.method, grid.sweep.trials) == ("grid", 6)
    assert grid.sweep.dimensions == (
        Dimension(key="model.hidden", values=([8], [16], [])),
        Dimension(key="optimizer.lr", values=(0.1, 0.2)),
    )
    drawn = load_config(BASE, "sweep.optimizer.lr={min: 0.001, max: 1, log: true}", "sweep.trials=7")
    assert (drawn.sweep.method, drawn.sweep.trials) == ("tpe", 7)
    assert drawn.sweep.dimensions == (Dimension(key="optimizer.lr", low=0.001, high=1.0, log=True),)
    widths = load_config(BASE, "sweep.data.batch_size={min: 8, max: 64}")
    assert type(widths.sweep.dimensions[0].low) is int
    assert load_config(grid.plain).plain == grid.plain  # as the run directory saves it


def test_a_fit_of_a_sweep_is_checked_as_a_whole() -> None:
    config = load_config(BASE, "sweep.optimizer.lr=[0.1,0.2]", "optimizer.name=sgd")
    assert [child.config.optimizer.config.lr for child in config.children] == [0.1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.optimizer.lr=[0.1,-1]", r"optimizer\.lr = -1 \(sweep\.optimizer\.lr\) is not allowed"),
        ("sweep.optimizer.lr={min: 0.1, max: 1e9}", r"optimizer\.lr = 1000000000\.0"),
        ("sweep.optimizer.lrr=[1]", r"unknown key optimizer\.lrr .*did you mean lr"),
        ("sweep.optimizer.lr=0.1", r"sweep\.optimizer\.lr .*write a list of values, or a range"),
        ("sweep.optimizer.lr=[]", "the list is empty"),
        ("sweep.optimizer.lr=[1,1]", "has a value twice"),
        ("sweep.optimizer.lr={min: 1, max: 0.1}", "min must be less than max"),
        ("sweep.optimizer.lr={min: 0, max: 1, log: true}", "above 0 with log"),
        ("sweep.optimizer.lr={min: a, max: 1}", "a range has the numbers min and max"),
        ("sweep.optimizer.lr={min: 0.1}", "a range has the numbers min and max"),
        ("sweep.lr=[1]", r"sweep\.lr .*a sweep can set keys of model"),
        ("sweep.jobs=2", "names no setting"),
        ("sweep.jobs=0", r"sweep\.jobs = 0"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(BASE, override)


def test_a_grid_needs_lists_and_no_number_of_fits() -> None:
    lists = "sweep.optimizer.lr=[0.1,0.2]"
    with pytest.raises(UserError, match="a grid takes all combinations"):
        load_config(BASE, lists, "sweep.trials=3")
    with pytest.raises(UserError, match=r"a grid needs lists, but data\.batch_size is a range"):
        load_config(BASE, lists, "sweep.data.batch_size={min: 1, max: 9}", "sweep.method=grid")
    assert load_config(BASE, lists, "sweep.method=random", "sweep.trials=3").sweep.trials == 3


@pytest.mark.parametrize(
    "other", ["seeds=[0,1]", "folds=3", "variants.a.seed=1", "stages.a={}", "baselines.majority_class={}"]
)
def test_a_sweep_stands_alone(other: str) -> None:
    with pytest.raises(UserError, match="a sweep has no seeds, folds, variants, baselines or stages"):
        load_config(BASE, "sweep.optimizer.lr=[0.1,0.2]", other)


def test_null_variants_leave_one_fit_of_the_shared_settings() -> None:
    sweep = {**BASE, "sweep.optimizer.lr": [0.1, 0.2], "comparison.x": "epoch"}
    assert load_config(sweep, "variants=null").plain == load_config(BASE).plain


def test_a_list_for_a_setting_with_one_value_says_how_to_try_each() -> None:
    with pytest.raises(UserError, match=r"; to try each value: sweep\.optimizer\.lr=\[0\.1,0\.2\]$"):
        load_config(BASE, "optimizer.lr=[0.1,0.2]")
