import json

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import mnist
from experiments.benchmark.harness import Sample
from experiments.config import registry
from experiments.training.fit import fit


def test_time_to_target_ends_with_the_first_epoch_on_target() -> None:
    outcome = mnist.Outcome(
        seconds=[[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]], accuracies=[[0.9, 0.99, 0.98], [0.5, 0.6, 1]]
    )
    assert outcome.epochs_to(0.99) == [2, 3]
    assert outcome.seconds_to(0.99) == Sample((2.0, 3.5))
    assert outcome.epochs_to(0.9) == [1, 3]
    assert outcome.epochs_to(0.995) is None
    row = outcome.row("x", 0.99, Sample((20.0, 35.0)))
    assert row["times as fast"] == Sample((10.0, 10.0))
    assert row["% after each epoch"] == "70.00 79.50 99.00"
    missed = outcome.row("x", 0.995, Sample((20.0, 35.0)))
    assert (missed["seconds to target"], missed["times as fast"]) == (None, None)


@pytest.mark.slow
def test_command(tmp_path, capsys) -> None:
    """Both, and every step between them, on scikit-learn's digits."""
    names = list(registry.CATALOG["model"])
    path = tmp_path / "mnist.json"
    options = ["--quick", "--repeats", "2", "--max-epochs", "2", "--target", "0.2", "--json", str(path)]
    assert command.main(["mnist", *options]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["training"] for row in rows] == [
        "classic example",
        *(f"+ our {piece}" for piece in mnist.PIECES),
        "sprint, full suite",
    ]
    for row in rows:
        assert all(float(share) > 12 for share in row["% after each epoch"].split())
        assert row["seconds per epoch"]["mean"] > 0
        is_ablation = str(row["training"]).startswith("+")
        assert len(row["seconds per epoch"]["values"]) == (1 if is_ablation else 2)
    sprint = mnist.load_config(mnist.SPRINT)
    assert len(rows[-1]["% after each epoch"].split()) == sprint.trainer.max_epochs
    assert list(registry.CATALOG["model"]) == names
    assert "full suite" in capsys.readouterr().out


def test_the_suite_is_timed_and_tested_as_it_reports_itself(tmp_path) -> None:
    """The weights taken after the last epoch are those that the run tested, when they were its best."""
    experiment = mnist.load_config(mnist.SPRINT, mnist.QUICK, {"trainer": {"precision": "32-true"}})
    data = mnist.build_data(experiment)
    trained = mnist.suite_fit(experiment, seed=3)
    assert len(trained.states) == len(trained.seconds) == experiment.trainer.max_epochs
    assert trained.seconds == sorted(trained.seconds)
    outcome = mnist.Outcome()
    outcome.add(trained, data)
    result = mnist.load_config(mnist.SPRINT, mnist.QUICK, {"trainer": {"precision": "32-true"}, "seed": 3})
    place = {**result.plain, "run_dir": str(tmp_path / "run")}
    assert fit(mnist.load_config(place)).metrics["test/accuracy"] in [
        pytest.approx(share) for share in outcome.accuracies[0]
    ]
