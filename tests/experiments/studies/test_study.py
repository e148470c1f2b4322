"""Variants, seeds and baselines run apart, are compared, and continue after a stop."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config.check import load_config, to_yaml
from experiments.config.sources import read_file
from experiments.errors import Interrupted, RunError, UserError
from experiments.launch import main
from experiments.studies import study
from experiments.training import checkpoint
from experiments.training.confusion import read_confusion

# ------------------------------------------------------------------------------ studies, in this process


STUDY: dict[str, Any] = {
    "seeds": [0, 1],
    "variants": {"small": {"model.hidden": [4]}, "wide_0.5": {"model.hidden": [32]}},
    "baselines": {"majority_class": {}, "near": {"name": "k_nearest_neighbors", "neighbors": 1}},
    "trainer.max_epochs": 4,
}
FITS = ["small/seed_0", "small/seed_1", "wide_0.5/seed_0", "wide_0.5/seed_1"]


@pytest.mark.slow
def test_variants_seeds_and_baselines_end_in_one_comparison(
    tiny: dict[str, Any], in_this_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_config(tiny, STUDY).form == "variants"
    result = experiments.run(tiny, STUDY, "run_dir=out")
    assert in_this_process == [f"out/{path}" for path in ("majority_class", "near", *FITS)]
    accuracy = {
        path: json.loads(Path(f"out/{path}/metrics.json").read_text())["test/accuracy"] for path in FITS
    }
    with Path("out/comparison.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file) if row["metric"] == "test/accuracy"}
    assert set(rows) == {"small", "wide_0.5", "majority_class", "near"}
    pair = torch.tensor([accuracy[path] for path in FITS[2:]], dtype=torch.float64)
    assert float(rows["wide_0.5"]["mean"]) == pytest.approx(pair.mean().item())
    assert float(rows["wide_0.5"]["std"]) == pytest.approx(pair.std().item())
    assert rows["near"]["best"] == "1"  # 1-nearest neighbour is right on 98 % of these digits
    assert accuracy[FITS[0]] != accuracy[FITS[1]]
    assert "**" in Path("out/comparison.md").read_text()
    assert Path("out/comparison.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "wide_0.5" in out
    assert out.splitlines()[-1].endswith("tensorboard --logdir out")
    assert set(result.children) == {"majority_class", "near", *FITS}
    for path in ("majority_class", "near"):
        table = read_confusion(Path("out", path))
        assert table is not None
        assert sum(map(sum, table.counts)) == 360
    assert result.module is None


@pytest.mark.slow
def test_one_variants_failure_is_listed_and_the_others_go_on(
    tiny: dict[str, Any], in_this_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"bad": {"optimizer.lr": 1e4, "optimizer.weight_decay": 1e4}, "good": {}}
    result = experiments.run(tiny, {"variants": variants}, "run_dir=out")
    out, err = capsys.readouterr()
    assert "the loss became nan" in err
    assert "bad/seed_0 failed with exit status 1; see out/bad/seed_0/run.log" in out
    told = json.loads(Path("out/bad/seed_0/failed.json").read_text())
    assert told["exit_status"] == 1
    assert "the loss became nan at step" in told["error"]
    listed = Path("out/comparison.md").read_text().split("failed:")[1]
    assert "bad/seed_0" in listed
    assert "the loss became nan at step" in listed
    assert list(result.children) == ["good/seed_0"]
    # Continued, the failed one is tried again and the finished one is not.
    in_this_process.clear()
    experiments.run("resume=out")
    assert in_this_process == ["out/bad/seed_0"]
    # When nothing is left to compare, the study fails.
    assert main(["resume=out"]) == 0
    Path("only_bad.yaml").write_text(to_yaml({**tiny, "variants": {"bad": variants["bad"]}}))
    assert main(["only_bad.yaml", "run_dir=none"]) == 1
    assert "none of the 1 fits finished; see none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_continued_study_skips_what_is_finished_takes_new_seeds_and_refuses_other_settings(
    tiny: dict[str, Any], in_this_process: list[str]
) -> None:
    experiments.run(tiny, "seeds=[0,1]", "run_dir=out")
    assert in_this_process == ["out/tiny/seed_0", "out/tiny/seed_1"]
    in_this_process.clear()
    experiments.run("resume=out")
    assert in_this_process == []
    experiments.run("resume=out", "seeds=[0,1,2]")
    assert in_this_process == ["out/tiny/seed_2"]
    in_this_process.clear()
    experiments.run("resume=out", "trainer.max_epochs=3")
    assert in_this_process == [f"out/tiny/seed_{seed}" for seed in (0, 1, 2)]
    assert json.loads(Path("out/tiny/seed_0/metrics.json").read_text())["epochs"] == 3
    with pytest.raises(UserError, match=r"other settings: optimizer\.lr"):
        experiments.run("resume=out", "optimizer.lr=0.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "baselines.near.neighbors=2",
            r"cannot continue out/near .*baseline\.neighbors = 2 \(the run has 1\)",
        ),
        ("data.augment.shift=1", r"data\.augment\.shift = 1"),
        ("data.val_size=100", r"data\.val_size = 100"),
        ("seeds=[5]", r"out/near .*seed = 5 \(the run has 0\)"),
    ],
)
def test_a_baseline_of_other_settings_is_refused(
    override: str, said: str, tiny: dict[str, Any], in_this_process: list[str]
) -> None:
    study = {"seeds": [0], "baselines": {"near": {"name": "k_nearest_neighbors", "neighbors": 1}}}
    experiments.run(tiny, study, "run_dir=out", "trainer.max_epochs=1")
    in_this_process.clear()
    before = Path("out/config.yaml").read_text()
    if override.startswith("baselines"):
        experiments.run("resume=out", "data.num_workers=0")  # how it is loaded is free
        before = Path("out/config.yaml").read_text()
    else:  # when the fits have left nothing to compare with
        Path("out/tiny/seed_0/config.yaml").unlink()
    with pytest.raises(UserError, match=said):
        experiments.run("resume=out", override)
    assert in_this_process == []
    assert Path("out/config.yaml").read_text() == before


@pytest.mark.slow
def test_a_baseline_is_given_each_seeds_data_where_they_differ(
    tiny: dict[str, Any], in_this_process: list[str]
) -> None:
    """As where the seed chooses the fold: every fit has a baseline on the very split it was tested on."""
    study = {"seeds": [0, 1], "baselines": {"near": {"name": "k_nearest_neighbors", "neighbors": 1}}}
    other_split = {"data": {**tiny["data"], "split_seed": "${seed}"}, "trainer.max_epochs": 1}
    experiments.run(tiny, study, other_split, "run_dir=out")
    assert in_this_process == [*(f"out/{v}/seed_{s}" for v in ("near", "tiny") for s in (0, 1))]
    for seed in (0, 1):
        beside = load_config(f"out/tiny/seed_{seed}/config.yaml").plain
        told = read_file(Path(f"out/near/seed_{seed}/config.yaml")).values
        assert told["data"] == beside["data"]
        assert told["data"]["split_seed"] == told["seed"] == seed
    found = [json.loads(Path(f"out/near/seed_{s}/metrics.json").read_text()) for s in (0, 1)]
    assert found[0]["val/accuracy"] != found[1]["val/accuracy"]
    with Path("out/comparison.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file) if row["metric"] == "val/accuracy"}
    assert rows["near"]["runs"] == "2"
    mean = (found[0]["val/accuracy"] + found[1]["val/accuracy"]) / 2
    assert float(rows["near"]["mean"]) == pytest.approx(mean)
    in_this_process.clear()
    experiments.run("resume=out")
    assert in_this_process == []
    experiments.run("resume=out", "seeds=[0,1,2]")
    assert in_this_process == ["out/near/seed_2", "out/tiny/seed_2"]


@pytest.mark.slow
def test_a_baseline_without_settings_or_with_damaged_metrics_is_run_again(
    tiny: dict[str, Any], in_this_process: list[str]
) -> None:
    study = {"baselines": {"majority_class": {}}}
    experiments.run(tiny, study, "run_dir=out", "trainer.max_epochs=1")
    Path("out/majority_class/config.yaml").unlink()
    in_this_process.clear()
    experiments.run("resume=out")
    assert in_this_process == ["out/majority_class"]
    Path("out/majority_class/metrics.json").write_text("{")
    experiments.run("resume=out")
    assert in_this_process == ["out/majority_class"] * 2
    assert Path("out/majority_class/metrics.json.damaged").read_text() == "{"


@pytest.mark.slow
def test_auto_finds_the_unfinished_study_and_not_a_finished_one(
    tiny: dict[str, Any], in_this_process: list[str]
) -> None:
    first = experiments.run(tiny, "seeds=[0,1]").run_dir
    (first / "comparison.csv").unlink()
    (first / "tiny" / "seed_1" / "metrics.json").unlink()
    in_this_process.clear()
    assert experiments.run(tiny, "seeds=[0,1]", "resume=auto").run_dir == first
    assert in_this_process == [(first / "tiny" / "seed_1").as_posix()]
    assert experiments.run(tiny, "seeds=[0,1]", "resume=auto").run_dir != first


# ------------------------------------------------------------------------------ studies, in real processes


@pytest.mark.slow
def test_a_study_of_real_processes_stops_on_a_signal_and_continues(tiny: dict[str, Any], work: Path) -> None:
    long = {**tiny, "name": "long", "seeds": [0, 1], "baselines": {"majority_class": {}}}
    long["trainer"] = {**tiny["trainer"], "max_epochs": 2000}
    (work / "long.yaml").write_text(to_yaml(long))
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", "long.yaml", "run_dir=out"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 400  # only so that a defect does not hang
        while not (work / "out/long/seed_0/checkpoints/best.ckpt").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 130, err
    assert len(err.splitlines()) == 2, err
    assert "resume=out" in err
    assert "[1/3] majority_class" in out
    assert (work / "out/majority_class/metrics.json").exists()
    assert not (work / "out/long/seed_1").exists()
    saved = checkpoint.load(work / "out/long/seed_0/checkpoints/last.ckpt")
    assert saved["global_step"] > 0


@pytest.mark.slow
def test_the_fits_of_a_killed_study_end_with_it_and_the_study_is_taken_up_again(
    tiny: dict[str, Any],
    work: Path,
    kill_when: Callable[[Mapping[str, Any], Sequence[Path]], None],
    in_this_process: list[str],
) -> None:
    first = work / "out/tiny/seed_0"
    longer = {**tiny, "seeds": [0, 1], "trainer": {**tiny["trainer"], "max_epochs": 1000}}
    kill_when(longer, [first / "checkpoints/best.ckpt"])
    step = checkpoint.load(first / "checkpoints/last.ckpt")["global_step"]
    assert not (first / "metrics.json").exists()
    result = experiments.run("resume=out", f"trainer.max_steps={step + 6}")
    assert in_this_process == ["out/tiny/seed_0", "out/tiny/seed_1"]
    assert f"step {step}" in (first / "run.log").read_text()
    assert (result.run_dir / "comparison.csv").exists()
    assert [path.parent.name for path in sorted(work.glob("out/tiny/*/metrics.json"))] == ["seed_0", "seed_1"]


def test_a_signal_between_two_fits_is_the_studys(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is still importing may end with any status: what counts is that a signal came."""
    monkeypatch.setattr(study, "run_in_process", lambda job, arguments: (1, signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        experiments.run(tiny, "seeds=[0,1]", "run_dir=out")
    assert caught.value.signum == signal.SIGTERM
    assert caught.value.run_dir == Path("out")
    assert not Path("out/tiny/seed_1").exists()


@pytest.mark.slow
def test_a_cross_validation_ends_with_mean_and_spread_over_folds(
    work: Path, in_this_process: list[str]
) -> None:
    settings = {
        "model": {"name": "table_classifier"},
        "data": {"name": "table", "path": "wine"},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "folds": 3,
        "baselines": {"majority_class": {}},
        "run_dir": "cross",
    }
    experiments.run(settings)
    lines = (work / "cross" / "comparison.md").read_text().splitlines()
    rows = {cells[1].strip(): cells for cells in (line.split("|") for line in lines) if len(cells) > 3}
    for name in ("experiment", "majority_class"):
        assert rows[name][2].strip() == "3"
        assert "±" in rows[name][3]
    sizes = [
        json.loads(p.read_text())["test/accuracy"] for p in work.glob("cross/*/seed_0_fold_*/metrics.json")
    ]
    assert len(sizes) == 6


def test_a_study_whose_fits_are_all_refused_leaves_nothing(
    tiny: dict[str, Any], in_this_process: list[str], work: Path
) -> None:
    with pytest.raises(RunError, match="none of the 2 fits finished"):
        experiments.run(tiny, {"seeds": [0, 1]}, "data.batch_size=4096", "data.drop_last=true", "run_dir=out")
    assert in_this_process == ["out/tiny/seed_0", "out/tiny/seed_1"]
    assert not list(work.iterdir())
