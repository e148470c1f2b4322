"""The catalog names what exists, takes in own classes, and takes nothing from a file."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from experiments import register
from experiments.config import registry
from experiments.config.check import load_config
from experiments.errors import UserError


@dataclass(kw_only=True)
class OwnConfig:
    width: int = field(default=3, metadata={"help": "How wide.", "min": 1})


class Own:
    """An own model.

    More of it.
    """


pytestmark = pytest.mark.usefixtures("own_code_forgotten")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in registry.CATALOG.items() for n in names])
def test_every_place_in_the_catalog_exists(kind: str, name: str) -> None:
    entry = registry.entry(kind, name)
    assert entry.help.endswith(".")
    assert isinstance(registry.schema(kind, name), type)
    if entry.target is not None:
        # a reward is a function
        assert callable(target := registry.target(kind, name))
        assert isinstance(target, type) == (kind != "reward")


def test_every_models_dashboard_exists() -> None:
    for name in registry.CATALOG["model"]:
        dashboard = registry.target("model", name).dashboard
        if dashboard is not None:
            assert isinstance(registry.dashboard(dashboard), type)


def test_schemas_come_without_torch() -> None:
    program = (
        "import sys; from experiments.config import registry\n"
        "for kind, names in registry.CATALOG.items():\n"
        "    for name in names: registry.schema(kind, name)\n"
        "assert not {'torch', 'lightning', 'numpy'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_registered_class_is_known_to_configs() -> None:
    register("model", "own", Own, OwnConfig)
    loaded = load_config({"model": {"name": "own", "width": 5}, "data": {"name": "digits"}})
    assert loaded.model.config == OwnConfig(width=5)
    assert registry.target("model", "own") is Own
    assert registry.entry("model", "own").help == "An own model."
    with pytest.raises(UserError, match=r"model\.width = 0"):
        load_config({"model": {"name": "own", "width": 0}, "data": {"name": "digits"}})


def test_a_name_that_is_taken_is_refused_but_the_same_class_may_come_again() -> None:
    with pytest.raises(UserError, match="'mlp' is taken"):
        register("model", "mlp", Own, OwnConfig)
    register("model", "own", Own, OwnConfig)
    again = type("Own", (), {"__doc__": "Anew.", "__module__": Own.__module__})
    register("model", "own", again, OwnConfig)  # a notebook cell that is run again
    assert registry.target("model", "own") is again
    other = type("Other", (), {"__doc__": "Another."})
    with pytest.raises(UserError, match="'own' is taken"):
        register("model", "own", other, OwnConfig)


def test_nothing_that_a_file_says_is_imported(work: Path) -> None:
    """Not by a name that looks like a place, either."""
    (work / "trap.py").write_text("raise SystemExit('imported')\n")
    for name in ("trap:Trap", "trap.Trap", "trap"):
        with pytest.raises(UserError, match="unknown model"):
            load_config({"model": {"name": name}, "data": {"name": "digits"}})
    assert "trap" not in sys.modules


def test_an_unknown_name_lists_the_choices_and_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown schedule 'one_cicle' \(did you mean one_cycle\?\).*constant"
    ):
        registry.entry("schedule", "one_cicle")


class OwnLoss:
    """Three times the sum of the outputs."""

    def __init__(self, config: OwnConfig, info: object) -> None:
        self.factor = config.width


def test_an_own_objective_suits_every_model_that_takes_one() -> None:
    base = {"model.name": "mlp", "data.name": "digits"}
    with pytest.raises(UserError, match=r"unknown objective 'own'"):
        load_config(base, "objective.name=own")
    register("objective", "own", OwnLoss, OwnConfig)
    for model in ("mlp", "language_model", "steering"):
        loaded = load_config(base, f"model.name={model}", "objective.name=own", "objective.width=5")
        assert loaded.objective is not None
        assert (loaded.objective.name, loaded.objective.config) == ("own", OwnConfig(width=5))
    register("model", "bare", Own, OwnConfig)
    assert load_config(base, "model.name=bare").objective is None
    with pytest.raises(UserError, match=r"the model bare has an objective of its own"):
        load_config(base, "model.name=bare", "objective.name=own")


def test_an_objective_that_does_not_suit_the_model_is_refused_by_name() -> None:
    base = {"model.name": "language_model", "data.name": "tiny_shakespeare"}
    assert load_config(base).objective.name == "cross_entropy"
    with pytest.raises(UserError, match=r"mse .*the model language_model cannot be trained with it; choose"):
        load_config(base, "objective.name=mse")


def test_the_settings_of_an_objective_stay_if_its_default_name_is_spelled_out() -> None:
    base = {"model.name": "mlp", "data.name": "digits", "objective.label_smoothing": 0.1}
    assert load_config(base, "objective.name=cross_entropy").objective.config.label_smoothing == 0.1
    assert load_config(base, "objective.name=focal").objective.name == "focal"
