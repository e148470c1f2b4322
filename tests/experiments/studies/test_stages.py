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
