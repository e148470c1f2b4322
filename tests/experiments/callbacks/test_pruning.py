"""A fit of a sweep reports its metric, and ends early where the earlier fits were better."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from experiments.callbacks.pruning import Pruning
from experiments.errors import EndedEarlyError


def trainer(step: int, value: float, **more: Any) -> Any:
    state = {"sanity_checking": False, "is_global_zero": True, **more}
    return SimpleNamespace(
        state=SimpleNamespace(fn="fit"), global_step=step, callback_metrics={"val/loss": value}, **state
    )


@pytest.fixture
def study() -> optuna.Study:
    """Five fits with a loss of about 1 at step 10."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner())
    for number in range(5):
        trial = study.ask()
        trial.report(1 + number / 100, 10)
        study.tell(trial, 1.0)
    return study


def test_a_worse_fit_ends_early_and_a_better_one_goes_on(study: optuna.Study) -> None:
    good = study.ask()
    Pruning(good, "val/loss").on_validation_end(trainer(10, 0.9), None)
    bad = study.ask()
    with pytest.raises(EndedEarlyError, match=r"ended early at step 10: val/loss 2 is worse than the median"):
        Pruning(bad, "val/loss").on_validation_end(trainer(10, 2.0), None)


def test_only_validations_of_the_fit_count(study: optuna.Study) -> None:
    trial = study.ask()
    pruning = Pruning(trial, "val/loss")
    pruning.on_validation_end(trainer(10, 9.0, sanity_checking=True), None)
    pruning.on_validation_end(trainer(10, 9.0, is_global_zero=False), None)
    assert not study.get_trials()[-1].intermediate_values


def test_a_fit_that_goes_on_reports_no_step_twice(study: optuna.Study) -> None:
    trial = study.ask()
    Pruning(trial, "val/loss").on_validation_end(trainer(10, 0.9), None)
    again = Pruning(trial, "val/loss")
    again.on_fit_start(trainer(10, 0.9), None)
    again.on_validation_end(trainer(10, 0.9), None)
    again.on_validation_end(trainer(20, 0.8), None)
    assert study.get_trials()[-1].intermediate_values == {10: 0.9, 20: 0.8}
