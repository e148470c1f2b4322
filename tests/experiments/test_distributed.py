"""Two processes on one CPU: one run directory, each sample evaluated once, a stop and a continuation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from datamodules.configs.mnist import DigitsConfig
from datamodules.mnist import DigitsDataModule
from experiments.config.check import to_yaml
from experiments.training import checkpoint
from experiments.training.build import restore
from experiments.training.curve_file import read_curve_rows

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def evaluate(folder: Path, split: str) -> dict[str, float]:
    """Accuracy and loss of the best checkpoint over a whole split, in this process and in one batch."""
    path = folder / "checkpoints" / "best.ckpt"
    restored = restore(checkpoint.load(path), path)
    data = DigitsDataModule(DigitsConfig(val_size=181))
    images, targets = data.split(split)
    with torch.no_grad():
        logits = restored.module(data.normalize(images))
    right = (logits.argmax(1) == targets).double().mean().item()
    return {f"{split}/accuracy": right, f"{split}/loss": F.cross_entropy(logits, targets).item()}


@pytest.mark.slow
def test_two_processes_stop_and_continue_as_one_run(tiny: dict[str, Any], work: Path) -> None:
    """A chain of two stages, started by Lightning, stopped in the second, continued by torchrun."""
    # 181 validation samples don't divide by two; neither does the number of evaluation batches.
    chain = {
        **tiny,
        "name": "two",
        "data": {"name": "digits", "batch_size": 100, "val_size": 181, "eval_batch_size": 60},
        "stages": {"first": {}, "second": {"model": {"init_from": "first"}, "trainer.max_epochs": 30}},
    }
    (work / "two.yaml").write_text(to_yaml(chain))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", "two.yaml", "trainer.devices=2", "trainer.strategy=ddp"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 400  # only so that a defect does not hang
        while not list(work.glob("runs/two/*/second/checkpoints/best.ckpt")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 143, err
    assert len(err.splitlines()) == 2, err
    assert out.count("stage first") == 1  # rank zero speaks for both
    (folder,) = (work / "runs" / "two").iterdir()
    assert f"resume={folder.relative_to(work)}" in err or f"resume={folder}" in err
    stopped = checkpoint.load(folder / "second" / "checkpoints" / "last.ckpt")
    assert len(stopped["random_states"]) == 2
    assert not (folder / "second" / "metrics.json").exists()

    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("-m", "experiments.run", "two.yaml", "resume=auto"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "first is finished" in done.stdout
    assert list((work / "runs" / "two").iterdir()) == [folder]
    assert sorted(p.name for p in work.iterdir()) == ["runs", "two.yaml"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.yaml",
        "environment.json",
        "first",
        "metrics.json",
        "second",
    ]
    steps_per_epoch = 7  # of 1,256 images: six of 2 × 100 and one of 2 × 28
    for stage, epochs in (("first", 2), ("second", 30)):
        metrics = json.loads((folder / stage / "metrics.json").read_text())
        assert metrics["epochs"] == epochs
        assert metrics["steps"] == epochs * steps_per_epoch
        # No sample twice and none left out: an exact fraction of 181 and of 360, and the mean loss.
        for split, size in (("val", 181), ("test", 360)):
            assert metrics[f"{split}/accuracy"] * size == pytest.approx(
                round(metrics[f"{split}/accuracy"] * size), abs=1e-3
            )
            for key, value in evaluate(folder / stage, split).items():
                assert metrics[key] == pytest.approx(value, rel=1e-5), (stage, key)
        logged = [(r[0], r[2]) for r in read_curve_rows(folder / stage / "metrics.csv")]
        assert len(logged) == len(set(logged))  # each point once, by one process
        assert [int(step) for step, name in logged if name == "train/loss"] == list(
            range(2, epochs * steps_per_epoch + 1, 2)
        )
