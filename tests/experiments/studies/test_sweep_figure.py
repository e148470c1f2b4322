"""The figure of a sweep takes the values of settings as plain text."""

from pathlib import Path

from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from experiments.config.check import load_config
from experiments.studies.sweep_figure import draw


def test_dollar_signs_are_no_mathematics(tmp_path: Path) -> None:
    experiment = load_config(
        {"model.name": "mlp", "data.name": "mnist", "sweep": {"data.root": ["$^$", "other"]}}
    )
    choices = {"data.root": CategoricalDistribution(('"$^$"', '"other"'))}
    trials = [
        create_trial(value=1.0, params={"data.root": choice}, distributions=choices)
        for choice in choices["data.root"].choices
    ]
    draw(experiment, trials, {}, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 0
