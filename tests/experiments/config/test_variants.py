"""Variants × seeds and stages become the configs of their fits."""

from typing import Any

import pytest

from experiments.config.check import load_config
from experiments.config.comparison import ComparisonConfig
from experiments.errors import UserError

BASE: dict[str, Any] = {"model": {"name": "mlp"}, "data": {"name": "digits"}}


def test_variants_times_seeds_expand_and_keep_their_own_settings() -> None:
    loaded = load_config(
        {
            **BASE,
            "optimizer": {"name": "sgd", "lr": 0.5},
            "seeds": [3, 4],
            "variants": {
                "plain": {},
                "lr_0.1": {"optimizer.lr": 0.1},
                "adam": {"optimizer": {"name": "adam"}},
            },
            "baselines": {"majority_class": None, "near": {"name": "k_nearest_neighbors", "neighbors": 2}},
        },
        "data.batch_size=9",
    )
    assert loaded.form == "variants"
    assert [child.path for child in loaded.children] == [
        f"{variant}/seed_{seed}" for variant in ("plain", "lr_0.1", "adam") for seed in (3, 4)
    ]
    assert [child.config.seed for child in loaded.children] == [3, 4] * 3
    rates = [child.config.optimizer.config.lr for child in loaded.children]
    assert rates == [0.5, 0.5, 0.1, 0.1, 1e-3, 1e-3]
    assert {child.config.data.config.batch_size for child in loaded.children} == {9}
    assert {child.config.form for child in loaded.children} == {"fit"}
    assert loaded.baselines["near"].name == "k_nearest_neighbors"
    assert loaded.baselines["near"].config.neighbors == 2


def test_seeds_alone_make_a_study_of_one_variant() -> None:
    loaded = load_config({**BASE, "name": "x"}, "seeds=[0,1]")
    assert [child.path for child in loaded.children] == ["x/seed_0", "x/seed_1"]
    assert load_config({**BASE, "seeds": []}).form == "fit"


def test_baselines_alone_compare_with_one_fit() -> None:
    loaded = load_config({**BASE, "name": "x", "seed": 6}, "baselines.majority_class={}")
    assert [child.path for child in loaded.children] == ["x/seed_6"]


def test_a_study_says_what_its_report_shows_and_its_fits_do_not() -> None:
    loaded = load_config({**BASE, "seeds": [0], "comparison.curves": ["train/loss"]}, "comparison.x=epoch")
    assert loaded.comparison == ComparisonConfig(curves=["train/loss"], x="epoch")
    assert loaded.plain["comparison"] == {"curves": ["train/loss"], "x": "epoch"}
    assert "comparison" not in loaded.children[0].config.plain
    with pytest.raises(UserError, match=r"comparison.*: only a study has one; add variants, seeds or folds"):
        load_config({**BASE, "comparison.x": "epoch"})
    with pytest.raises(UserError, match=r"comparison\.x = 'epochs' .* allowed: step, epoch"):
        load_config({**BASE, "seeds": [0], "comparison.x": "epochs"})
    with pytest.raises(UserError, match=r"variants\.a\.comparison .* not allowed in one of the variants"):
        load_config({**BASE, "variants": {"a": {"comparison.x": "epoch"}}})


def test_stages_complete_the_rest_of_the_config_in_order() -> None:
    loaded = load_config(
        {
            "data": {"name": "digits"},
            "trainer": {"max_epochs": 3},
            "stages": {
                "first": {"model": {"name": "mlp"}},
                "second": {"model": {"name": "mlp", "init_from": "first"}, "trainer.max_epochs": 1},
            },
        }
    )
    assert loaded.form == "stages"
    assert [child.path for child in loaded.children] == ["first", "second"]
    assert [child.config.trainer.max_epochs for child in loaded.children] == [3, 1]
    assert loaded.children[1].config.name == "experiment/second"


def test_stages_with_seeds_are_whole_chains_and_have_a_report() -> None:
    chain = {**BASE, "name": "x", "stages": {"a": {"model.hidden": [8]}, "b": {"model.init_from": "a"}}}
    loaded = load_config(chain, "seeds=[3,4]", "comparison.x=epoch")
    assert [child.path for child in loaded.children] == ["a/seed_3", "b/seed_3", "a/seed_4", "b/seed_4"]
    assert [child.config.seed for child in loaded.children] == [3, 3, 4, 4]
    assert [child.config.name for child in loaded.children] == ["x/a", "x/b"] * 2
    assert (loaded.form, loaded.is_compared, loaded.comparison.x) == ("stages", True, "epoch")
    assert not load_config(chain).is_compared
    with pytest.raises(UserError, match=r"comparison.*: only a study has one; add variants, seeds or folds"):
        load_config(chain, "comparison.x=epoch")
    with pytest.raises(UserError, match="names a seed twice"):
        load_config(chain, "seeds=[3,3]")
    with pytest.raises(UserError, match=r"stages\.a\.seed .*: set seeds: once for all stages instead"):
        load_config(chain, "seeds=[3,4]", "stages.a.seed=5")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", ".hidden", "a/b"])
@pytest.mark.parametrize("form", ["variants", "baselines", "stages"])
def test_a_name_that_leaves_its_study_is_refused(tiny: dict[str, Any], form: str, name: str) -> None:
    with pytest.raises(UserError, match="a name becomes a folder"):
        load_config({**tiny, form: {name: {"name": "majority_class"} if form == "baselines" else {}}})


@pytest.mark.parametrize("form", ["stages", "variants", "baselines"])
@pytest.mark.parametrize("name", ["config.yaml", "Metrics.JSON", "checkpoints", "tensorboard"])
def test_a_name_that_a_run_directory_uses_itself_is_refused(form: str, name: str) -> None:
    settings = {"name": "majority_class"} if form == "baselines" else {}
    with pytest.raises(UserError, match=rf"^{form}\.{name} .*: a run directory uses such names itself"):
        load_config({**BASE, form: {name: settings}})


def test_two_of_one_name_are_refused_whatever_their_case(tiny: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="two variants or baselines are named 'a'"):
        load_config({**tiny, "variants": {"a": {}}, "baselines": {"A": {"name": "majority_class"}}})


def test_null_variants_leave_one_fit_of_the_shared_settings() -> None:
    study = {**BASE, "seed": 5, "seeds": [3, 4], "variants": {"a": {"model.hidden": [8]}}}
    study |= {"baselines": {"majority_class": {}}, "comparison.x": "epoch"}
    loaded = load_config(study, "variants=null")
    assert (loaded.form, loaded.seed) == ("fit", 5)
    assert loaded.plain == load_config({**BASE, "seed": 5}).plain
    again = load_config(study, "variants=null", "seeds=[7,8]")
    assert [child.path for child in again.children] == ["experiment/seed_7", "experiment/seed_8"]
    assert load_config("char_rnn_hello_study", "variants=null").form == "fit"


def test_folds_run_each_variant_on_each_fold() -> None:
    study = {**BASE, "folds": 3, "variants": {"a": {}, "b": {"model.hidden": [8]}}}
    loaded = load_config(study)
    assert [child.path for child in loaded.children] == [
        f"{v}/seed_0_fold_{k}" for v in "ab" for k in range(3)
    ]
    assert [child.config.data.config.fold for child in loaded.children] == [0, 1, 2] * 2
    assert {child.config.data.config.folds for child in loaded.children} == {3}
    assert load_config({**BASE, "folds": 2, "seeds": [4, 5]}).children[-1].path == "experiment/seed_5_fold_1"
    assert "folds" not in load_config(BASE).plain
    with pytest.raises(UserError, match="more than 1000 fits"):
        load_config({**BASE, "folds": 600, "seeds": [0, 1]})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"name": "hello"}, "training, validation and test have the same pair"),
        ({"name": "digit_sequences"}, r"each split has new strings, which data\.split_seed decides"),
        ({"name": "steering_pairs"}, "its splits are new pairs, or those of its file"),
        ({"name": "chat", "path": "x"}, "its file names the splits, or their order in the file gives them"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_data_without_folds_says_why(data: dict[str, str], why: str) -> None:
    line = rf"folds .*: data\.name {data['name']} can't be split into folds: {why}; choose from mnist"
    with pytest.raises(UserError, match=line):
        load_config({"model.name": "char_rnn", "data": data, "folds": 3})
