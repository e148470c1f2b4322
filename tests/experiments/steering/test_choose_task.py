"""The stage left by the tiny chain."""

import json
from pathlib import Path

from experiments.run_directory import read_metrics
from experiments.steering.methods import METHODS


def test_one_network_and_every_methods_factor_are_chosen(chain_run: Path) -> None:
    for layer in (0, 1):
        assert read_metrics(chain_run / f"train_{layer}")["test/r2"] <= 1
    chosen = json.loads((chain_run / "choose" / "choice.json").read_text())
    assert chosen["stage"] in ("train_0", "train_1")
    assert chosen["alphas"].keys() == METHODS.keys()
    assert set(chosen["alphas"].values()) <= {0.5, 1.0}
    for picture in ("layers", "alphas", "projection"):
        assert (chain_run / "choose" / f"{picture}.png").stat().st_size > 1000
