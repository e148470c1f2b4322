"""Stages of a chain run in order, start from earlier ones, and continue after a stop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.training import checkpoint

STAGES: dict[str, Any] = {
    "first": {"trainer.max_epochs": 3},
    "second": {"model": {"init_from": "first"}, "optimizer": {"lr": 1e-30}},
}


def test_a_later_stage_starts_from_an_earlier_ones_best_weights(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = experiments.run(tiny, {"stages": STAGES}, "run_dir=chain")
    first, second = (json.loads(Path(f"chain/{name}/metrics.json").read_text()) for name in STAGES)
    assert first["epochs"] == 3
    assert second["test/loss"] == pytest.approx(first["test/loss"], abs=1e-6)
    assert (
        load_config("chain/second/config.yaml").model.config.init_from == "chain/first/checkpoints/best.ckpt"
    )
    together = json.loads(Path("chain/metrics.json").read_text())
    assert together["first/test/loss"] == first["test/loss"]
    assert together["test/loss"] == together["second/test/loss"] == second["test/loss"]
    assert result.metrics == second
    assert list(result.children) == list(STAGES)
    assert result.module is not None
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[-2:]] == ["chain", "chain"]


def test_a_stage_that_starts_from_none_before_it_is_refused_at_once(tiny: dict[str, Any], work: Path) -> None:
    for later in ("second", "first"):
        stages = {"first": {"model": {"init_from": later}}, "second": {}}
        with pytest.raises(UserError, match=rf"stages\.first\.model\.init_from = '{later}'.*not come before"):
            experiments.run(tiny, {"stages": stages})
    assert not list(work.iterdir())


@pytest.mark.slow
def test_a_resumed_chain_passes_over_finished_stages(tiny: dict[str, Any]) -> None:
    whole = experiments.run(tiny, {"stages": STAGES}, "run_dir=whole")
    experiments.run(tiny, {"stages": STAGES}, "run_dir=chain")
    # As it is when the second stage was killed before it had saved anything.
    for path in (
        *Path("chain/second/checkpoints").iterdir(),
        Path("chain/second/metrics.json"),
        Path("chain/metrics.json"),
    ):
        path.unlink()
    before = Path("chain/first/metrics.json").stat().st_mtime_ns
    again = experiments.run("resume=chain")
    assert Path("chain/first/metrics.json").stat().st_mtime_ns == before
    assert again.metrics["test/loss"] == whole.metrics["test/loss"]
    states = [
        checkpoint.load(Path(f"{d}/second/checkpoints/last.ckpt"))["state_dict"] for d in ("whole", "chain")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with pytest.raises(UserError, match=r"other settings: model\.dropout"):
        experiments.run("resume=chain", "model.dropout=0.5")
    found = experiments.run(tiny, {"stages": STAGES}, "resume=auto")
    assert found.run_dir not in (Path("chain"), Path("whole"))  # those are finished, and not under runs/


@pytest.mark.slow
def test_a_moved_chain_goes_on(tiny: dict[str, Any]) -> None:
    whole = experiments.run(tiny, {"stages": STAGES}, "run_dir=chain")
    for path in (*Path("chain/second/checkpoints").iterdir(), *Path("chain").glob("**/metrics.json")):
        if path.parts[1] != "first":
            path.unlink()
    Path("elsewhere").mkdir()
    moved = Path("chain").rename("elsewhere/chain")
    again = experiments.run(f"resume={moved}")
    assert again.run_dir == moved
    assert again.metrics["test/loss"] == whole.metrics["test/loss"]
    assert not Path("chain").exists()


TAUGHT: dict[str, Any] = {
    "teacher": {"model.hidden": [16]},
    "student": {"objective": {"name": "distillation", "teacher": "teacher", "temperature": 2.0}},
}


@pytest.mark.slow
def test_a_chain_with_seeds_stays_within_each_seed_and_compares_the_stages(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, {"stages": STAGES}, "seeds=[5,6]", "run_dir=chain")
    for seed in (5, 6):
        first, second = (result.children[f"{name}/seed_{seed}"].metrics for name in STAGES)
        assert second["test/loss"] == pytest.approx(first["test/loss"], abs=1e-6)
    losses = [result.children[f"first/seed_{seed}"].metrics["test/loss"] for seed in (5, 6)]
    assert losses[0] != losses[1]
    assert result.metrics["first/test/loss"] == pytest.approx(sum(losses) / 2)
    assert not Path("chain/metrics.json").exists()
    table = Path("chain/comparison.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in table.splitlines()[2:4]] == ["| first", "| second"]
    assert "best by" not in table  # stages have different tasks
    Path("chain/second/seed_6/metrics.json").unlink()
    Path("chain/comparison.csv").unlink()
    again = experiments.run("resume=chain")
    assert again.metrics["second/test/loss"] == result.metrics["second/test/loss"]
    assert Path("chain/comparison.csv").is_file()


def test_a_stage_can_teach_a_later_one(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, {"stages": TAUGHT}, "run_dir=chain", "trainer.max_epochs=20")
    assert load_config("chain/student/config.yaml").objective.config.teacher == (  # type: ignore[union-attr]
        "chain/teacher/checkpoints/best.ckpt"
    )
    taught = experiments.run(
        tiny,
        {"objective": {**TAUGHT["student"]["objective"], "teacher": "chain/teacher"}},
        "run_dir=alone",
        "trainer.max_epochs=20",
    )
    assert taught.metrics["test/loss"] == result.metrics["test/loss"]
    assert taught.metrics["test/accuracy"] > 0.5


@pytest.mark.parametrize("key", ["model.init_from", "objective.teacher"])
def test_a_stage_that_names_a_later_one_or_a_missing_file_is_refused(
    tiny: dict[str, Any], work: Path, key: str
) -> None:
    for named, said in (("second", "does not come before first"), ("missing.ckpt", "there is no checkpoint")):
        first = {"objective": {"name": "distillation", "teacher": named}}
        first = first if key == "objective.teacher" else {key: named}
        with pytest.raises(UserError, match=said):
            experiments.run(tiny, {"stages": {"first": first, "second": {}}})
    assert not list(work.iterdir())
