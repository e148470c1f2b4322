"""Each fit of a chain is tested on the data of each fit."""

import csv
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.evaluate.on_data import evaluate
from experiments.studies.stages import run_stages


@pytest.fixture
def chain(language_settings: dict[str, Any], work: Path) -> dict[str, Any]:
    Path("other.txt").write_text("the cat ate the hat. " * 60)
    other = {"model.init_from": "base", "data.path": "other.txt"}
    adapter = {"adapter": {"name": "lora", "rank": 2, "targets": ["query", "up"]}}
    tuned = {"optimizer": {"name": "adamw", "lr": 0.01}}
    stages = {"base": {}, "full": {**other, **tuned}, "lora": {**other, **tuned, **adapter}}
    return {**language_settings, "stages": {**stages, "compare": {"task": {"name": "cross_evaluation"}}}}


def test_each_fit_is_tested_on_the_data_of_each(chain: dict[str, Any], work: Path) -> None:
    metrics = experiments.run(chain, "run_dir=chain", "trainer.max_epochs=1").metrics
    with Path("chain/compare/cross_evaluation.csv").open() as file:
        rows = {row["fit"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["base", "full", "lora"]
    for name in rows:
        own = evaluate(f"chain/{name}")
        place = "base" if name == "base" else "full"
        assert metrics[f"{name}_on_{place}/test/loss"] == pytest.approx(own["test/loss"])
        assert float(rows[name][f"test/loss on {place}"]) == pytest.approx(own["test/loss"])
    assert metrics["full_on_full/test/loss"] < metrics["base_on_full/test/loss"]
    assert float(rows["lora"]["trained_parameters"]) < float(rows["full"]["trained_parameters"]) / 4
    assert float(rows["lora"]["weights_mb"]) < float(rows["full"]["weights_mb"]) / 2


def test_a_setting_that_one_fit_lacks_is_set_back(chain: dict[str, Any], work: Path) -> None:
    Path("test: it.txt").write_text("the rat sat on the mat. " * 60)
    chain["stages"]["full"]["data.test_path"] = "test: it.txt"
    del chain["stages"]["lora"]
    metrics = experiments.run(chain, "run_dir=chain", "trainer.max_epochs=1").metrics
    for name in ("base", "full"):
        assert metrics[f"{name}_on_{name}/test/loss"] == pytest.approx(evaluate(f"chain/{name}")["test/loss"])
    overrides = f"data.path={chain['data']['path']}", "data.test_path=null"
    assert metrics["full_on_base/test/loss"] == evaluate("chain/full", *overrides)["test/loss"]


def test_fits_on_different_kinds_of_data_cannot_be_compared(chain: dict[str, Any]) -> None:
    chain["stages"] = {"compare": chain["stages"]["compare"]}
    with pytest.raises(UserError, match=r"stages\.compare: cross_evaluation needs earlier fits on one kind"):
        run_stages(load_config(chain))
