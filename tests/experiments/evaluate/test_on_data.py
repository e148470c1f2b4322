"""Re-testing a checkpoint gives the numbers of the run that wrote it."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

import experiments
from datamodules.configs.mnist import DigitsConfig
from datamodules.info import TextInfo
from datamodules.mnist import DigitsDataModule
from experiments.errors import UserError
from experiments.evaluate.__main__ import main
from experiments.evaluate.on_data import check_data, evaluate
from experiments.training import build, checkpoint


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with what training does otherwise than testing: dropout, augmentation, averaged weights."""
    settings = {
        "model": {"name": "mlp", "hidden": [16], "dropout": 0.2, "norm": "batch_norm"},
        "data": {"name": "digits", "train_samples": 600, "augment": {"shift": 1}},
        "optimizer": {"name": "adamw", "lr": 0.02},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "ema_decay": 0.9,
            "dashboard": False,
            "progress_bar": False,
        },
        "run_dir": str(tmp_path_factory.mktemp("runs") / "mlp"),
    }
    return experiments.run(settings).run_dir


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def table(text: str) -> dict[str, float]:
    """The metrics of a printed table."""
    cells = [line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│")]
    return {name.strip(): float(value) for name, value in cells}


@pytest.mark.parametrize("split", ["test", "val"])
def test_metrics_are_those_of_the_run(run_dir: Path, split: str) -> None:
    recorded = json.loads((run_dir / "metrics.json").read_text())
    metrics = evaluate(run_dir, split=split)
    assert set(metrics) == {f"{split}/loss", f"{split}/accuracy"}
    assert metrics == {name: recorded[name] for name in metrics}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "auto"])
def test_a_run_of_a_gpu_is_evaluated_without_one_and_says_so(
    precision: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = checkpoint.load(run_dir / "checkpoints" / "best.ckpt")
    on_gpu = {"accelerator": "gpu", "precision": precision, "devices": [0, 1], "strategy": "ddp"}
    saved["config"]["trainer"] |= on_gpu
    saved["resolved"] = {"accelerator": "cuda", "precision": "bf16-mixed", "compile": False}
    path = tmp_path / "gpu.ckpt"
    torch.save(saved, path)
    recorded = json.loads((run_dir / "metrics.json").read_text())
    metrics = evaluate(path)
    assert "note: trainer.accelerator = 'gpu' is not available on this machine; using" in (
        capsys.readouterr().err
    )
    for name, value in metrics.items():
        assert value == pytest.approx(recorded[name], rel=0.02)
    with pytest.raises(UserError, match="no such device"):
        evaluate(path, "trainer.accelerator=cuda")


def test_metrics_agree_with_scikit_learn(run_dir: Path) -> None:
    path = run_dir / "checkpoints" / "last.ckpt"
    module = build.restore(checkpoint.load(path), path).module
    data = DigitsDataModule(DigitsConfig())
    data.setup()
    images, targets = data.split("test")
    with torch.inference_mode():
        probabilities = module(data.normalize(images)).double().softmax(dim=1)
    metrics = evaluate(path, "trainer.precision=32-true")
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(targets, probabilities.argmax(dim=1)))
    assert metrics["test/loss"] == pytest.approx(log_loss(targets, probabilities, labels=range(10)), rel=1e-5)


def test_command_needs_the_file_alone_and_writes_nothing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((run_dir / "metrics.json").read_text())
    shutil.copy(run_dir / "checkpoints" / "best.ckpt", tmp_path / "moved.ckpt")
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    overrides = ["data.eval_batch_size=7", "--split", "val", "trainer.accelerator=cpu", "trainer.devices=1"]
    assert main(["moved.ckpt", *overrides]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "moved.ckpt, val split" in printed.out
    assert table(printed.out) == {
        name: pytest.approx(recorded[name], abs=6e-5) for name in ("val/loss", "val/accuracy")
    }
    assert files(tmp_path) == before


def test_limits_and_smaller_data_are_allowed_on_the_test_split(run_dir: Path) -> None:
    limited = evaluate(run_dir, "data.eval_batch_size=5", "trainer.limit_test_batches=2")
    assert limited["test/accuracy"] * 10 == pytest.approx(round(limited["test/accuracy"] * 10))
    assert evaluate(run_dir, "data.val_size=30") == evaluate(run_dir)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.hidden=[8]"], r"model\.hidden: an evaluation keeps the checkpoint's model"),
        (["model={hidden: [8]}"], r"an evaluation keeps the checkpoint's model"),
        (["optimizer.lr=1"], r"optimizer\.lr: an evaluation keeps the checkpoint's optimizer"),
        (["seed=1"], r"seed: an evaluation keeps the checkpoint's seed"),
        (["data.split_seed=1"], r"data\.split_seed: .*training examples into the test split"),
        (["data.split_seed=1", "--split=val"], r"data\.split_seed: .*training examples"),
        (["data.augment.shift=2", "--split=val"], r"data\.augment: .*training examples"),
        (["data.eval_batch_size=0"], r"data\.eval_batch_size = 0 \(the command line\)"),
        (["data.eval_batchsize=10"], r"eval_batchsize .*did you mean .*eval_batch_size"),
        (["trainer.precision=half"], r"trainer\.precision = .?half.? \(the command line\) is not allowed"),
        (["trainer.accelerator=tpu"], r"this machine has no such device; available: .*cpu"),
        (["eval_batch_size"], r"neither a config file nor of the form key\.path=value"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err), printed.err


def test_other_data_is_refused(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DigitsDataModule, "mean", (0.25,))
    assert main([str(run_dir)]) == 2
    error = capsys.readouterr().err
    assert "mean is [0.25], but the model was trained with [0.3053]" in error


def test_bits_per_byte_are_those_of_the_text_that_is_read(language_run: Path, tmp_path: Path) -> None:
    (tmp_path / "café.txt").write_text("a café; " * 100, encoding="utf-8")
    found = evaluate(language_run, f"data.path={tmp_path / 'café.txt'}")
    bytes_per_token = found["test/loss"] / math.log(2) / found["test/bits_per_byte"]
    assert bytes_per_token == pytest.approx(9 / 8, rel=0.01)  # é takes two bytes


def test_another_vocabulary_is_not_printed_whole() -> None:
    tokenizer = {"kind": "bpe", "tokens": [f"token{n}" for n in range(5000)]}
    trained = TextInfo(vocab_size=5000, context_length=8, tokenizer=tokenizer, val_size=3)
    check_data(trained, dataclasses.replace(trained, val_size=4, bytes_per_token=2.5))
    with pytest.raises(UserError, match=r"data: tokenizer is {'kind': 'byte'}, but .* 'bpe', ") as error:
        check_data(trained, dataclasses.replace(trained, tokenizer={"kind": "byte"}))
    assert len(str(error.value)) < 300


def test_a_bad_checkpoint_is_one_line_and_status_2(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (run_dir / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.ckpt")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("nowhere.ckpt", "there is no checkpoint"),
        ("empty", "there is no checkpoint in"),
        ("cut.ckpt", "truncated"),
        ("foreign.ckpt", "not a checkpoint of this suite"),
    ]:
        assert main([str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_command_line_is_checked_before_torch_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom experiments.evaluate.__main__ import main\n"
        f"assert main(['nowhere.ckpt']) == 2\nassert main([{str(tmp_path)!r}, 'model.hidden=[8]']) == 2\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m experiments.evaluate" in done.stdout
