"""Settings of a fit that contradict each other are refused where they are made."""

from typing import Any

import pytest

from experiments.config.trainer import TrainerConfig


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_epochs": None, "max_steps": 10},
        {"check_val_every_n_steps": 5},
        {"check_val_every_n_epoch": 2},
        {"devices": 3},
        {"devices": [0, 2]},
        {"devices": "auto"},
    ],
)
def test_what_fits_together_is_taken_as_it_is(settings: dict[str, Any]) -> None:
    config = TrainerConfig(**settings)
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_epochs": None}, "both null"),
        ({"max_epochs": None, "max_minutes": 1.0}, "the schedule needs one"),
        ({"check_val_every_n_steps": 5, "check_val_every_n_epoch": 3}, "= 5 and check_val_every_n_epoch = 3"),
    ],
)
def test_what_does_not_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainerConfig(**settings)
