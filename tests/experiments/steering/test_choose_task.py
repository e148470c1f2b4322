"""The stage left by the tiny chain."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.config.sources import PUBLISHED, read_file
from experiments.steering.choose_task import Tried, best_factor
from experiments.steering.methods import METHODS
from experiments.training.run_directory import read_metrics


def test_one_network_and_every_methods_factor_are_chosen(chain_run: Path) -> None:
    for layer in (0, 1):
        assert read_metrics(chain_run / f"train_{layer}")["test/r2"] <= 1
    chosen = json.loads((chain_run / "choose" / "choice.json").read_text())
    assert chosen["stage"] in ("train_0", "train_1")
    assert chosen["alphas"].keys() == METHODS.keys()
    assert set(chosen["alphas"].values()) <= {0.5, 1.0}
    assert chosen["alphas"]["random"] == chosen["alphas"]["l2s_shuffled"] == chosen["alphas"]["l2s"]
    assert not {"random", "l2s_shuffled", "none"} & chosen["tried"].keys()
    for method, by_alpha in chosen["tried"].items():
        assert by_alpha.keys() == {"0.5", "1"}
        assert all(tried["perplexity"] > 0 for tried in by_alpha.values()), method
    for picture in ("layers", "alphas", "projection"):
        assert (chain_run / "choose" / f"{picture}.png").stat().st_size > 1000


def test_the_networks_are_compared_over_seeds_and_explained(chain_run: Path) -> None:
    found = read_metrics(chain_run / "choose")
    for stage in ("train_0", "train_1"):
        assert (chain_run / "choose" / f"{stage}_seed_1" / "checkpoints" / "best.ckpt").is_file()
        assert found[f"val/{stage}/l2s_std/margin"] > 0
        assert found[f"val/{stage}/l2s_std/r2"] > 0
        assert found[f"val/{stage}/none/margin"] == found["val/train_0/none/margin"]
        for method in ("ridge", "l2s", "fine_router", "instantiation_mean", "sentences"):
            assert found[f"val/{stage}/{method}/r2"] <= 1
        assert found[f"val/{stage}/instantiation_mean/beyond_answer"] == 0
        # There is one sentence for each answer, so to know it is to know the answer.
        assert found[f"val/{stage}/sentences/beyond_answer"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("work")
def test_the_published_comparison_has_a_margin_for_each_change_of_the_network(
    chain_settings: dict[str, Any],
) -> None:
    path = PUBLISHED / "steering_networks.yaml"
    small = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "progress_bar": False},
        "model.hidden": 16,
        "stages.narrow.model.hidden": 4,
        "stages.wide.model.hidden": 32,
        "data": {"input_layer": 1, "target_layer": 0, "batch_size": 8},
        "stages.extract.task": {**chain_settings["stages"]["extract"]["task"], "answers": 1},
        "stages.choose.task": {"prompts": 6, "seeds": [0, 1], "written": 2, "max_new_tokens": 3},
    }
    found = experiments.run(path, small, "run_dir=chain").metrics
    stages = [name for name in read_file(path).values["stages"] if name not in ("extract", "choose")]
    assert len(stages) == 1 + 10  # the plain network and its changes
    learned = [tuple(found[f"val/{name}/l2s/{key}"] for key in ("margin", "r2")) for name in stages]
    assert len(set(learned)) == len(stages)
    for name in stages:
        assert math.isfinite(found[f"val/{name}/l2s/margin"])
        assert found[f"val/{name}/l2s_std/margin"] >= 0
        for method in ("none", "ridge", "mean", "p2s"):  # do not depend on the network
            assert found[f"val/{name}/{method}/margin"] == found[f"val/plain/{method}/margin"]
    chosen = json.loads(Path("chain/choose/choice.json").read_text())
    assert chosen["stage"] in stages


def test_a_factor_counts_while_the_answers_stay_within_the_limit() -> None:
    tried = {0.5: Tried(0.1, 1.0), 1.0: Tried(0.3, 1.1), 1.5: Tried(0.2, 1.05), 2.0: Tried(0.9, 1.2)}
    assert best_factor(tried, perplexity_limit=1.1) == 1.0
    assert best_factor(tried, perplexity_limit=1.2) == 2.0
    assert best_factor(tried, perplexity_limit=0.9) == 0.5  # none does: the least perplexing
    silent = {0.5: Tried(0.1, math.nan), 1.0: Tried(0.3, 1.3), 1.5: Tried(0.9, math.nan)}
    assert best_factor(silent, perplexity_limit=1.1) == best_factor(silent, perplexity_limit=9.9) == 1.0
