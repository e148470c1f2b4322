"""A dry run builds and tries everything, and leaves nothing."""

from pathlib import Path

import pytest

from experiments.launch import main


def test_a_dry_run_writes_nothing_and_sees_a_wrong_monitor(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_file), "--dry-run", "run_dir=out"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main([str(tiny_file), "--dry-run", "trainer.monitor=val/los"]) == 2
    assert "did you mean val/loss?" in capsys.readouterr().err
    assert main([str(tiny_file), "--dry-run", "model.init_from=nowhere.ckpt"]) == 2
    assert "nowhere.ckpt" in capsys.readouterr().err
    assert [p.name for p in work.iterdir()] == ["tiny.yaml"]


def test_a_dry_run_of_stages_and_of_a_study_builds_each(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "stages={a: {}, b: {model: {init_from: a}}}"
    assert main([str(tiny_file), "--dry-run", stages]) == 0
    assert (
        main(
            [str(tiny_file), "--dry-run", "variants={x: {}, y: {data: {batch_size: 2000, drop_last: true}}}"]
        )
        == 2
    )
    out, err = capsys.readouterr()
    assert "dry run of b" in out
    assert "dry run of y/seed_0" in out
    assert len(err.splitlines()) == 1
    assert [p.name for p in work.iterdir()] == ["tiny.yaml"]


def test_a_run_after_a_dry_run_keeps_its_log(tiny_file: Path, work: Path) -> None:
    assert main([str(tiny_file), "--dry-run"]) == 0
    assert main([str(tiny_file), "run_dir=out", "trainer.max_epochs=1"]) == 0
    assert "done in" in (work / "out" / "run.log").read_text()
