"""The command line of `experiments.compare`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.compare import main


def make_run(path: Path, metrics: dict[str, float]) -> None:
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def test_wrong_directories_are_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "config.yaml").write_text("name: x\n")
    for name, message in [
        ("missing", "no such directory"),
        ("empty", "no run directory"),
        ("failed", "none of the 1 runs in"),
    ]:
        assert main([str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not list((tmp_path / "empty").iterdir())


def test_command(tmp_path: Path) -> None:
    """As a person runs it; without --output the files go into the one directory given."""
    make_run(tmp_path / "deep" / "seed_0", {"test/accuracy": 0.5})
    make_run(tmp_path / "wide" / "seed_0", {"test/accuracy": 0.75})
    (tmp_path / "wide" / "seed_1").mkdir()
    (tmp_path / "wide" / "seed_1" / "failed.json").write_text('{"error": "the loss\\nis NaN"}')
    command = [sys.executable, "-m", "experiments.compare", str(tmp_path), "--columns", "test/accuracy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "deep" in done.stdout
    assert "0.75" in done.stdout
    assert "the loss is NaN" in done.stdout
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert written == {"comparison.csv", "comparison.md", "comparison.png"}


def test_the_nearest_run_is_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "deep" / "seed_0", {"test/accuracy": 0.5})
    assert main([str(tmp_path / "dep")]) == 2
    assert f"dep: no such directory (did you mean {tmp_path / 'deep'}?)" in capsys.readouterr().err
    assert main([str(tmp_path), "--columns", "test/acuracy"]) == 2
    assert "no metric matches test/acuracy; there are test/accuracy" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("own_code_forgotten")
def test_the_best_is_named_and_trained_again(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"variants": {"slow": {"optimizer.lr": 1e-6}, "fast": {}}}
    study = experiments.run(tiny, variants, "trainer.max_epochs=1", "run_dir=runs/study").run_dir
    capsys.readouterr()
    Path("own.py").touch()
    assert main([str(study), "--best", "--use", "own.py"]) == 0
    printed = capsys.readouterr().out
    assert "best by val/loss: fast" in printed
    command = "python -m experiments.run runs/study/fast/seed_0/config.yaml name=tiny_fast_best"
    assert f"{command} --use {Path('own.py').resolve()}\n" in printed
    assert main([str(study), "--best", "--retrain", "5"]) == 0
    (again,) = Path("runs/tiny_fast_best").glob("*/tiny_fast_best/seed_5/metrics.json")
    assert json.loads(again.read_text())["test/accuracy"] > 0
    assert main([str(study), "--retrain", "x"]) == 2
    assert "--retrain x: write whole numbers" in capsys.readouterr().err
    assert main([str(study / "slow"), "--best"]) == 2
    assert "at least two finished fits must monitor the same metric" in capsys.readouterr().err
