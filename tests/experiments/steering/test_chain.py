"""The whole chain on a tiny model: every stage leaves what the next needs, and a cut chain goes on."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.config import load
from experiments.dry_run import dry_run
from experiments.errors import UserError
from experiments.steering.methods import METHODS


def metrics(run: Path, stage: str) -> dict[str, float]:
    return json.loads((run / stage / "metrics.json").read_text())


def test_every_stage_leaves_its_figures(chain_run: Path) -> None:
    assert metrics(chain_run, "extract")["prompts"] == 4 * (5 * 2 + 2 * 3)
    for layer in (0, 1):
        assert metrics(chain_run, f"train_{layer}")["test/r2"] <= 1
    chosen = json.loads((chain_run / "choose" / "choice.json").read_text())
    assert chosen["stage"] in ("train_0", "train_1")
    assert chosen["alphas"].keys() == METHODS.keys()
    assert set(chosen["alphas"].values()) <= {0.5, 1.0}
    for picture in ("layers", "alphas", "projection"):
        assert (chain_run / "choose" / f"{picture}.png").stat().st_size > 1000


def test_the_comparison_has_every_method_and_what_decides(chain_run: Path) -> None:
    found = metrics(chain_run, "test")
    for subset in ("all", "seen", "unseen"):
        assert {f"test/{subset}/{method}/margin" for method in METHODS} <= found.keys()
        assert f"test/{subset}/gap_closed" in found
        assert f"test/{subset}/l2s_minus_mean" in found
    assert all(math.isfinite(value) for value in found.values())
    difference = found["test/all/l2s/margin"] - found["test/all/mean/margin"]
    assert found["test/all/l2s_minus_mean"] == pytest.approx(difference, abs=1e-6)
    table = (chain_run / "test" / "table.md").read_text()
    assert all(f"| {method}: {what} |" in table for method, what in METHODS.items())
    assert len((chain_run / "test" / "prompts.csv").read_text().splitlines()) == 8 + 1
    assert (chain_run / "test" / "seed_1" / "checkpoints" / "best.ckpt").is_file()


def test_answers_are_written_and_counted(chain_run: Path) -> None:
    found = metrics(chain_run, "generate")
    assert found["test/none/perplexity_ratio"] == 1
    assert found["test/none/neutral_unchanged"] == 1
    assert found["test/none/neutral_divergence"] == pytest.approx(0, abs=1e-6)
    assert found["test/mean/neutral_divergence"] > 0
    assert 0 <= found["test/l2s/keyword_rate"] <= 1
    shown = (chain_run / "generate" / "samples.md").read_text()
    assert shown.count("- l2s: ") == shown.count("- none: ") == 2


def test_a_cut_chain_goes_on_where_it_was(
    chain_run: Path, chain_settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {stage: metrics(chain_run, stage) for stage in ("test", "generate")}
    for stage in before:
        (chain_run / stage / "metrics.json").unlink()
    experiments.run({**chain_settings, "run_dir": str(chain_run), "resume": "auto"})
    said = capsys.readouterr().out
    assert f"{chain_run / 'extract'} is finished" in said
    assert f"{chain_run / 'choose'} is finished" in said
    for stage, found in before.items():
        assert metrics(chain_run, stage) == pytest.approx(found, rel=1e-4, abs=1e-6)


def test_a_chain_is_tried_without_being_run(
    chain_settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(load(chain_settings))
    said = capsys.readouterr().out
    assert "steering_extract has what is known before" in said
    assert "its data is not there before the stage extract has run" in said


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["choose"], "no stage before this one extracts hidden states"),
        (["extract", "choose"], "no stage before this one trains on extracted layers"),
        (["extract", "train_0", "test"], "no stage before this one has chosen layers and factors"),
        (["train_0", "extract"], r"stages.train_0.data.path = 'extract': that stage does not come before"),
    ],
)
def test_refuses_stages_in_the_wrong_order(
    stages: list[str], said: str, chain_settings: dict[str, Any], chain_run: Path, tmp_path: Path
) -> None:
    place = tmp_path / "chain"
    if stages[0] == "extract":  # what was extracted once is there
        shutil.copytree(chain_run / "extract", place / "extract")
    some = {**chain_settings, "stages": {name: chain_settings["stages"][name] for name in stages}}
    with pytest.raises(UserError, match=said):
        experiments.run({**some, "run_dir": str(place)})


def test_refuses_a_task_outside_a_chain(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    alone = {**chain_settings, "task": {"name": "steering_choose"}, "run_dir": str(tmp_path / "run")}
    with pytest.raises(UserError, match=r"task \(.*\): it stands in one of the stages, not beside them"):
        load(alone)
    del alone["stages"]
    with pytest.raises(UserError, match="task steering_choose: a task is one of the stages of a chain"):
        experiments.run(alone)


def test_a_wrong_prompt_line_stops_a_chain_that_is_only_tried(
    chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    source = Path(chain_settings["stages"]["extract"]["task"]["prompts"])
    folder = shutil.copytree(source, tmp_path / "prompts")
    with (folder / "topics.txt").open("a") as file:
        file.write("skin | train | a mole\n")
    extract = {**chain_settings["stages"]["extract"]["task"], "prompts": str(folder)}
    with pytest.raises(UserError, match=r"topics\.txt:29: 3 fields, expected 4"):
        dry_run(load({**chain_settings, "stages": {"extract": {"task": extract}}}))
