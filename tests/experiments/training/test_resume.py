"""A run that was stopped anywhere and continued is, to the bit, the run that wasn't stopped.

Most stops are signals that a model sends to its own process at a chosen step; the last tests kill real ones.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import experiments
from experiments import register
from experiments.config import registry
from experiments.config.check import to_yaml
from experiments.errors import Interrupted, UserError
from experiments.evaluate.on_data import evaluate
from experiments.launch import main
from experiments.training import checkpoint
from experiments.training.curve_file import read_curve_rows
from experiments.training.resume import check_same, newest_good
from lit_modules.configs.image_classifier import ImageClassifierConfig
from lit_modules.image_classifier import ImageClassifier

STEPS_PER_EPOCH = 6
EPOCHS = 3


@dataclass(kw_only=True)
class FragileConfig(ImageClassifierConfig):
    pass


class Fragile(ImageClassifier):
    """Dropout, batch norm and draws from all three generators; raises a signal where it is told to."""

    signal_at: tuple[str, int, int] | None = None
    """A stage, how many of its steps to let pass, and the signal."""
    seen = 0

    def build_network(self, config: Any, info: Any) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10)
        )

    def _maybe_signal(self, stage: str) -> None:
        at = Fragile.signal_at
        if at is not None and at[0] == stage:
            Fragile.seen += 1
            if Fragile.seen > at[1]:
                Fragile.signal_at = None
                signal.raise_signal(at[2])

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self._maybe_signal("train")
        images, targets = batch
        noise = random.random() + np.random.rand() + torch.randn(()).item()
        logits = self.network(images + 0.01 * noise)
        return {"loss": F.cross_entropy(logits, targets), "logits": logits.detach(), "targets": targets}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self._maybe_signal("sanity" if self.trainer.sanity_checking else "val")
        return super().validation_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self._maybe_signal("test")
        return super().test_step(batch, batch_idx)


@pytest.fixture
def fragile(tiny: dict[str, Any]) -> Iterator[dict[str, Any]]:
    register("model", "fragile", Fragile, FragileConfig)
    Fragile.signal_at, Fragile.seen = None, 0
    yield {
        **tiny,
        "name": "fragile",
        "model": {"name": "fragile"},
        "data": {**tiny["data"], "augment": {"shift": 1, "rotation": 10, "erase": 2}},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "schedule": {"name": "one_cycle"},
        "trainer": {**tiny["trainer"], "max_epochs": EPOCHS, "ema_decay": 0.9, "early_stopping_patience": 9},
    }
    Fragile.signal_at = None
    del registry.CATALOG["model"]["fragile"]
    registry.OWN.discard(("model", "fragile"))


def interrupt(sources: Any, *more: str, at: tuple[str, int, int]) -> Interrupted:
    Fragile.signal_at, Fragile.seen = at, 0
    with pytest.raises(Interrupted) as caught:
        experiments.run(sources, *more)
    assert caught.value.signum == at[2]
    return caught.value


def assert_same(first: Any, second: Any, path: str = "") -> None:
    """Equal to the bit, but for what measures time."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            if key not in ("fit_seconds", "config"):
                assert_same(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{path}[{index}]")
    elif isinstance(first, Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


def assert_same_runs(full: Path, cut: Path) -> None:
    """Both checkpoints whole (weights, optimizer, schedule, loops, generators, callbacks), metrics, curve."""
    for name in ("last.ckpt", "best.ckpt"):
        states = [checkpoint.load(run / "checkpoints" / name) for run in (full, cut)]
        assert {"optimizer_states", "lr_schedulers", "loops", "random_states", "callbacks"} <= states[
            0
        ].keys()
        assert_same(*states, name)
    measured = ("fit_seconds", "samples_per_second", "peak_memory_mb")
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (full, cut)]
    assert metrics[0].keys() == metrics[1].keys()
    assert all(metrics[0][key] == metrics[1][key] for key in metrics[0] if key not in measured)
    curves = [
        [r for r in read_curve_rows(run / "metrics.csv") if "per_second" not in r[2]] for run in (full, cut)
    ]
    assert curves[0] == curves[1]


LAST = EPOCHS * STEPS_PER_EPOCH - 1
STOPS = {
    "first step": ("train", 0, signal.SIGTERM),
    "mid-epoch": ("train", 8, signal.SIGINT),
    "an epoch's last step": ("train", STEPS_PER_EPOCH - 1, signal.SIGTERM),
    "an epoch's first step": ("train", STEPS_PER_EPOCH, signal.SIGINT),
    "the last step of all": ("train", LAST, signal.SIGTERM),
    "validation": ("val", 3, signal.SIGTERM),
    "test, Ctrl-C": ("test", 1, signal.SIGINT),
    "test, SIGTERM": ("test", 1, signal.SIGTERM),
}


@pytest.mark.slow
def test_a_run_continues_exactly_from_a_stop_at_any_place(fragile: dict[str, Any]) -> None:
    full = experiments.run(fragile, "run_dir=full")
    for number, (where, at) in enumerate(STOPS.items()):
        stopped = interrupt(fragile, f"run_dir=cut{number}", at=at)
        assert stopped.path == Path(f"cut{number}/checkpoints/last.ckpt"), where
        assert not Path(f"cut{number}/metrics.json").exists(), where
        cut = experiments.run(fragile, f"run_dir=cut{number}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)
        assert cut.metrics["test/loss"] == full.metrics["test/loss"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_of_a_gpu_goes_on_without_one_and_says_so(
    fragile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    full = experiments.run(fragile, "run_dir=full")
    interrupt(fragile, "run_dir=cut", at=STOPS["mid-epoch"])
    on_gpu = {"accelerator": "gpu", "precision": "16-mixed"}
    path = Path("cut/checkpoints/last.ckpt")
    saved = checkpoint.load(path)
    saved["config"]["trainer"] |= on_gpu
    saved["resolved"] = {"accelerator": "cuda", "precision": "16-mixed", "compile": False}
    saved["MixedPrecision"] = {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3}
    for states in saved["random_states"]:
        states["cuda"] = [torch.zeros(16, dtype=torch.uint8)]
    torch.save(saved, path)
    fragile["trainer"] |= on_gpu
    Path("cut/config.yaml").write_text(to_yaml(fragile | {"run_dir": "cut"}))
    capsys.readouterr()
    cut = experiments.run("resume=cut")
    assert "trainer.accelerator = 'gpu' is not available on this machine; using" in capsys.readouterr().out
    assert cut.metrics["test/loss"] == full.metrics["test/loss"]
    with pytest.raises(UserError, match="no such device"):
        experiments.run(fragile, "run_dir=new", "resume=auto")


@pytest.mark.slow
def test_a_run_continues_exactly_with_accumulation_and_clipping(fragile: dict[str, Any]) -> None:
    """Four batches a step: of an epoch's six batches only the fourth and the sixth end a step."""
    fragile["trainer"] |= {"accumulate_grad_batches": 4, "gradient_clip_norm": 0.1, "log_every_n_steps": 1}
    full = experiments.run(fragile, "run_dir=full")
    assert full.metrics["steps"] == 6
    for number, batch in enumerate((0, 1, 3, 4, 5, 10, LAST)):
        interrupt(fragile, f"run_dir=cut{number}", at=("train", batch, signal.SIGTERM))
        cut = experiments.run(fragile, f"run_dir=cut{number}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


@pytest.mark.slow
def test_a_run_that_validates_within_epochs_continues_exactly(fragile: dict[str, Any]) -> None:
    """Validations after steps 4, 8, 12, 16 and the last; stops right before, in and after them."""
    fragile["trainer"] |= {"check_val_every_n_steps": 4, "log_every_n_steps": 3}
    full = experiments.run(fragile, "run_dir=full")
    stops = [("train", step, 0) for step in (2, 3, 4, 5, 11, 12, LAST)]
    stops += [("val", batch, 0) for batch in (0, 5)]  # 180 samples in batches of 100: two each time
    for number, (stage, count, _) in enumerate(stops):
        interrupt(fragile, f"run_dir=cut{number}", at=(stage, count, signal.SIGTERM))
        cut = experiments.run(fragile, f"run_dir=cut{number}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


@pytest.mark.slow
def test_step_validations_accumulation_and_early_stopping_continue_exactly(fragile: dict[str, Any]) -> None:
    """Epochs of five batches, two a step: an epoch's third step has one."""
    fragile["trainer"] |= {
        "check_val_every_n_steps": 2,
        "accumulate_grad_batches": 2,
        "limit_train_batches": 5,
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 1,
        "early_stopping_patience": 3,
        "max_epochs": 9,
        "ema_decay": None,
    }
    fragile["optimizer"] = {"name": "sgd", "lr": 1e-30}
    fragile["schedule"] = {"name": "constant"}
    fragile["trainer"] |= {"monitor": "val/accuracy", "monitor_mode": "max"}
    full = experiments.run(fragile, "run_dir=full")
    assert full.metrics["steps"] % 3  # it stopped within an epoch
    for number, batch in enumerate((1, 3, 4, 6, 7)):
        interrupt(fragile, f"run_dir=cut{number}", at=("train", batch, signal.SIGINT))
        cut = experiments.run(fragile, f"run_dir=cut{number}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 4, 6, 10])
def test_more_steps_extend_a_run_that_ended_within_an_epoch(fragile: dict[str, Any], steps: int) -> None:
    """As far as the end's own validation, which the longer run lacks, changes nothing."""
    fragile["schedule"] = {"name": "constant"}
    fragile["trainer"] |= {
        "max_epochs": None,
        "max_steps": 14,
        "check_val_every_n_steps": 2,
        "ema_decay": 0.9,
    }
    full = experiments.run(fragile, "run_dir=full")
    experiments.run(fragile, "run_dir=cut", f"trainer.max_steps={steps}")
    cut = experiments.run("resume=cut", "trainer.max_steps=14")
    if steps % 2 == 0:
        assert_same_runs(full.run_dir, cut.run_dir)
    else:
        last = [checkpoint.load(run / "checkpoints" / "last.ckpt") for run in (full.run_dir, cut.run_dir)]
        for key in ("state_dict", "training_state_dict", "optimizer_states", "random_states", "epoch"):
            assert_same(last[0][key], last[1][key], key)


@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_is_still_the_same(fragile: dict[str, Any]) -> None:
    full = experiments.run(fragile, "run_dir=full")
    interrupt(fragile, "run_dir=cut", at=("train", 2, signal.SIGTERM))
    for _ in range(3):
        interrupt(fragile, "run_dir=cut", "resume=auto", at=("train", 3, signal.SIGINT))
    assert_same_runs(full.run_dir, experiments.run("resume=cut").run_dir)


@pytest.mark.slow
def test_auto_precision_stays_what_it_was_on_another_machine(
    fragile: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def machine(*instructions: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))

    fragile["trainer"] |= {"precision": "auto", "max_epochs": 2}
    for began, elsewhere, format in (("amx_bf16", "avx2", "bf16-mixed"), ("avx2", "amx_bf16", "32-true")):
        machine(began)
        full = experiments.run(fragile, f"run_dir=full_{format}")
        interrupt(fragile, f"run_dir=cut_{format}", at=("train", 7, signal.SIGTERM))
        machine(elsewhere)
        capsys.readouterr()
        cut = experiments.run(f"resume=cut_{format}")
        said = capsys.readouterr().out
        assert f"precision {format}, as at the start of the run; a new run on this machine would use" in said
        assert f"cpu, {format}" in said
        assert_same_runs(full.run_dir, cut.run_dir)
        # A test of the result gives what the run's own gave.
        evaluated = evaluate(cut.run_dir)
        assert evaluated == {key: full.metrics[key] for key in evaluated}
    states = [checkpoint.load(Path(f"full_{f}/checkpoints/last.ckpt")) for f in ("bf16-mixed", "32-true")]
    weights = [state["state_dict"]["network.1.weight"] for state in states]
    assert not torch.equal(*weights)


def test_a_continued_run_says_what_keeps_it_from_being_exact(
    stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    experiments.run("resume=cut", "trainer.compile=true")
    assert (
        "trainer.compile True, before False: the results will differ by rounding" in capsys.readouterr().out
    )


def test_early_stopping_counts_on_over_a_stop(fragile: dict[str, Any]) -> None:
    fragile["trainer"] |= {"early_stopping_patience": 2, "max_epochs": 9, "ema_decay": None}
    fragile["optimizer"] = {"name": "sgd", "lr": 1e-30}
    fragile["schedule"] = {"name": "constant"}
    full = experiments.run(
        fragile, "run_dir=full", {"trainer.monitor": "val/accuracy", "trainer.monitor_mode": "max"}
    )
    settings = json.loads((full.run_dir / "metrics.json").read_text())
    assert settings["epochs"] < 9
    more = {"trainer.monitor": "val/accuracy", "trainer.monitor_mode": "max"}
    Fragile.signal_at, Fragile.seen = ("train", 8, signal.SIGTERM), 0
    with pytest.raises(Interrupted):
        experiments.run(fragile, more, "run_dir=cut")
    assert_same_runs(full.run_dir, experiments.run("resume=cut").run_dir)


ENDS = {
    "early stopping": {"early_stopping_patience": 1},
    "early stopping within an epoch": {"early_stopping_patience": 2, "check_val_every_n_steps": 4},
    "minutes": {"max_minutes": 1e-6, "max_epochs": 9},
    "steps within an epoch": {"max_steps": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stage", ["test", "val"])
def test_a_run_that_has_ended_and_was_cut_afterwards_does_not_train_on(
    fragile: dict[str, Any], end: str, stage: str
) -> None:
    """Cut in its test, and in the last batch of its last validation, whose state is saved."""
    fragile["optimizer"] = {"name": "sgd", "lr": 1e-30}
    fragile["schedule"] = {"name": "constant"}
    fragile["trainer"] |= {"ema_decay": None, "monitor": "val/accuracy", "monitor_mode": "max", **ENDS[end]}
    full = experiments.run(fragile, "run_dir=full")
    assert full.metrics["steps"] < EPOCHS * STEPS_PER_EPOCH
    validations = sum(r[2] == "val/accuracy" for r in read_curve_rows(full.run_dir / "metrics.csv"))
    let_pass = 1 if stage == "test" else 2 * validations - 1  # 180 samples in batches of 100
    interrupt(fragile, "run_dir=cut", at=(stage, let_pass, signal.SIGTERM))
    cut = experiments.run(fragile, "run_dir=cut", "resume=auto")
    assert_same_runs(full.run_dir, cut.run_dir)


@pytest.mark.slow
def test_a_changed_patience_counts_on_a_resume(fragile: dict[str, Any]) -> None:
    fragile["optimizer"] = {"name": "sgd", "lr": 1e-30}
    fragile["schedule"] = {"name": "constant"}
    fragile["trainer"] |= {"ema_decay": None, "max_epochs": 9}
    fragile["trainer"] |= {"monitor": "val/accuracy", "monitor_mode": "max"}
    full = experiments.run(fragile, "run_dir=full", "trainer.early_stopping_patience=3")
    assert full.metrics["epochs"] == 4
    experiments.run(fragile, "run_dir=longer", "trainer.early_stopping_patience=1")
    experiments.run("resume=longer", "trainer.early_stopping_patience=3")
    assert_same(*(checkpoint.load(Path(run, "checkpoints/last.ckpt")) for run in ("full", "longer")))
    interrupt(fragile, "run_dir=shorter", at=("train", 15, signal.SIGTERM))  # in the third epoch
    assert experiments.run("resume=shorter", "trainer.early_stopping_patience=1").metrics["epochs"] == 3


@pytest.mark.slow
def test_more_minutes_continue_a_run_that_ended_by_its_time(fragile: dict[str, Any]) -> None:
    experiments.run(fragile, "run_dir=cut", "trainer.max_minutes=1e-6")
    cut = experiments.run("resume=cut", "trainer.max_minutes=100")
    assert cut.metrics["steps"] == EPOCHS * STEPS_PER_EPOCH


@pytest.mark.slow
def test_a_stop_before_training_saves_nothing_and_the_run_starts_when_resumed(
    fragile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import cli

    fragile["data"]["eval_batch_size"] = 20
    fragile["trainer"]["log_every_n_steps"] = 1
    full = experiments.run(fragile, "run_dir=full")
    for signum in (signal.SIGINT, signal.SIGTERM):
        Fragile.signal_at, Fragile.seen = ("sanity", 0, signum), 0

        def start(arguments: list[str]) -> None:
            experiments.run(fragile, *arguments)

        assert cli.command(start)([f"run_dir=cut{signum}"]) == 128 + signum
        assert capsys.readouterr().err.count("\n") <= 2
        cut = experiments.run(fragile, f"run_dir=cut{signum}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


def test_signal_handlers_are_put_back(fragile: dict[str, Any]) -> None:
    def own(signum: int, frame: Any) -> None:
        raise AssertionError

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, own)
    experiments.run(fragile, "run_dir=full")
    assert signal.getsignal(signal.SIGINT) is own
    assert signal.getsignal(signal.SIGTERM) is own
    interrupt(fragile, "run_dir=cut", at=("train", 2, signal.SIGTERM))
    assert signal.getsignal(signal.SIGINT) is own
    assert signal.getsignal(signal.SIGTERM) is own


# ---------------------------------------------------------------------------------- which run, which file


@pytest.fixture
def stopped(fragile: dict[str, Any]) -> dict[str, Any]:
    """Directory `cut` stopped in its second epoch: best.ckpt at step 6, last.ckpt at step 9."""
    interrupt(fragile, "run_dir=cut", at=("train", 8, signal.SIGTERM))
    return fragile


def test_a_damaged_last_checkpoint_falls_back_on_the_best_and_says_so(
    stopped: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    full = experiments.run(stopped, "run_dir=full")
    last = Path("cut/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:-500])
    capsys.readouterr()
    cut = experiments.run("resume=cut")
    said = capsys.readouterr().out
    assert "last.ckpt is not a checkpoint, or it is truncated; skipped" in said
    assert "continuing from cut/checkpoints/best.ckpt, step 6" in said
    assert_same_runs(full.run_dir, cut.run_dir)


def test_with_no_good_checkpoint_auto_starts_anew_and_a_named_run_is_refused(
    stopped: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    full = experiments.run(stopped, "run_dir=full")
    for path in Path("cut/checkpoints").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(
        UserError, match=r"no readable checkpoint.*last\.ckpt is not a checkpoint.*best\.ckpt"
    ) as refusal:
        experiments.run("resume=cut")
    assert "starting" not in str(refusal.value)
    capsys.readouterr()
    cut = experiments.run(stopped, "run_dir=cut", "resume=auto")
    assert "starting a new run" in capsys.readouterr().out
    assert_same_runs(full.run_dir, cut.run_dir)
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert Path("cut", f"{name}.damaged").read_bytes() == b"junk"
    assert Path("cut", "metrics.csv.damaged").exists()


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), MemoryError()],
    ids=["permission", "disk", "memory"],
)
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_that_cannot_be_read_now_stops_the_resume_and_nothing_is_lost(
    error: Exception, name: str, stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in Path("cut").rglob("*") if p.is_file()}

    before, opened = files(), Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == f"{name}.ckpt":
            raise error
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing)
        for sources in ((stopped, "run_dir=cut", "resume=auto"), ("resume=cut",)):
            with pytest.raises(UserError, match=rf"{name}\.ckpt.*nothing was changed"):
                experiments.run(*sources)
    assert files() == before


def test_a_folder_that_cannot_be_searched_is_not_taken_for_an_empty_one(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = work / "run"
    run_dir.mkdir()
    assert newest_good(run_dir).checkpoint is None
    (run_dir / "checkpoints").write_text("a file in place of the folder")
    with pytest.raises(UserError, match=r"last\.ckpt.*nothing was changed"):
        newest_good(run_dir)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(UserError, match=r"last\.ckpt: Permission denied; nothing was changed"):
        newest_good(run_dir)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(Path("cut/checkpoints/last.ckpt").read_bytes()[:-9]), "truncated"),
        (lambda path: torch.save({"state_dict": {}}, path), "not a checkpoint of this suite"),
        (lambda path: path.write_text("hello"), "not a checkpoint"),
        (lambda path: None, "there is no checkpoint"),
        (lambda path: shutil.copy("cut/checkpoints/last.ckpt", path), "holds no run"),
    ],
    ids=["truncated", "foreign", "text", "missing", "outside a run"],
)
def test_an_explicit_checkpoint_that_is_no_good_is_refused(
    make: Callable[[Path], Any], said: str, stopped: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, inside = Path("a/b/x.ckpt"), Path("cut/checkpoints/x.ckpt")
    for path in (elsewhere, inside):
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    Path("fragile.yaml").write_text(to_yaml(stopped))
    capsys.readouterr()
    assert main(["resume=a/b/x.ckpt"]) == 2
    assert ("holds no run" if elsewhere.exists() else said) in capsys.readouterr().err
    status = main([f"resume={inside}", "trainer.max_epochs=3"])
    err = capsys.readouterr().err
    if said == "holds no run" and inside.exists():
        assert status == 0  # a copy within the run is as good as the original
    else:
        assert status == 2
        assert len(err.splitlines()) == 1
        assert said in err
    assert main(["fragile.yaml", "resume=a/b/x.ckpt"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1


def test_a_name_that_leads_nowhere_is_refused(fragile: dict[str, Any]) -> None:
    Path("nowhere_else").mkdir()
    missing = r"there is no checkpoint nowhere \(did you mean nowhere_else\?\)"
    for sources in ("resume=nowhere",), (fragile, "resume=nowhere"):
        with pytest.raises(UserError, match=missing):
            experiments.run(*sources)
    with pytest.raises(UserError, match="holds no run"):
        experiments.run("resume=nowhere_else")


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "objective.label_smoothing=0.1",
        "data.batch_size=100",
        "optimizer.lr=0.5",
        "seed=5",
        "trainer.ema_decay=0.5",
    ],
)
def test_another_model_data_set_or_optimizer_is_refused(override: str, stopped: dict[str, Any]) -> None:
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"cannot continue cut with other settings: {key} = .*the run has"):
        experiments.run("resume=cut", override)
    with pytest.raises(UserError, match="other settings: optimizer"):
        experiments.run("resume=cut", "optimizer.name=sgd")


def test_a_run_from_before_a_setting_had_been_invented_goes_on(stopped: dict[str, Any]) -> None:
    for path in Path("cut/checkpoints").glob("*.ckpt"):
        state = checkpoint.load(path)
        assert state["config"].pop("objective")["label_smoothing"] == 0  # the default
        checkpoint.AtomicCheckpointIO().save_checkpoint(state, path)
    with pytest.raises(UserError, match=r"objective\.label_smoothing = 0\.1 \(the run has 0\.0\)"):
        experiments.run("resume=cut", "objective.label_smoothing=0.1")
    experiments.run("resume=cut")


def test_a_checkpoint_of_one_run_does_not_continue_in_anothers_directory(stopped: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="continues in cut, not in run_dir=other"):
        experiments.run(stopped, "resume=cut", "run_dir=other")


def test_auto_without_a_directory_finds_the_newest_unfinished_run_of_its_name(
    fragile: dict[str, Any], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fragile["trainer"]["max_epochs"] = 1
    first = interrupt(fragile, at=("train", 2, signal.SIGTERM)).run_dir
    second = interrupt(fragile, at=("train", 3, signal.SIGTERM)).run_dir
    finished = experiments.run(fragile).run_dir
    os.utime(first / "config.yaml", (1, 1))
    assert experiments.run(fragile, "resume=auto").run_dir == second
    assert experiments.run(fragile, "resume=auto").run_dir == first
    new = experiments.run(fragile, "resume=auto").run_dir
    assert new not in (first, second, finished)
    other = experiments.run({**fragile, "name": "other"}, "resume=auto").run_dir
    assert other.parent.name == "other"


def test_auto_with_a_directory_starts_what_is_not_there(fragile: dict[str, Any]) -> None:
    fragile["trainer"]["max_epochs"] = 1
    assert experiments.run(fragile, "run_dir=new", "resume=auto").run_dir == Path("new")
    Path("empty").mkdir()
    assert experiments.run(fragile, "run_dir=empty", "resume=auto").metrics["epochs"] == 1


@pytest.mark.slow
def test_a_finished_run_is_not_run_again_and_gives_its_metrics(
    fragile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    full = experiments.run(fragile, "run_dir=full")
    before = {p: p.stat().st_mtime_ns for p in Path("full").rglob("*")}
    capsys.readouterr()
    for again in (("resume=full",), (fragile, "run_dir=full", "resume=auto")):
        result = experiments.run(*again)
        assert result.metrics == full.metrics
        assert_same(dict(result.module.state_dict()), dict(full.module.state_dict()))
        assert "full is finished" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in Path("full").rglob("*")} == before


def test_more_epochs_extend_a_finished_run(fragile: dict[str, Any]) -> None:
    """With a schedule that doesn't depend on the length, it becomes what it would have been at once."""
    fragile["schedule"] = {"name": "constant"}
    full = experiments.run(fragile, "run_dir=full", "trainer.max_epochs=4")
    experiments.run(fragile, "run_dir=cut", "trainer.max_epochs=2")
    Fragile.signal_at, Fragile.seen = ("train", 3, signal.SIGTERM), 0
    with pytest.raises(Interrupted):
        experiments.run("resume=cut", "trainer.max_epochs=4")
    assert not Path("cut/metrics.json").exists()  # it isn't finished any more
    cut = experiments.run("resume=cut")  # and knows how long it is to be
    assert cut.metrics["epochs"] == 4
    assert_same_runs(full.run_dir, cut.run_dir)


def test_each_file_is_read_once(stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and checking them takes long for a large model."""
    read_from_disk = []
    load = torch.load

    def counted(path: Any, **options: Any) -> Any:
        read_from_disk.append(Path(path).name)
        return load(path, **options)

    monkeypatch.setattr(torch, "load", counted)
    experiments.run("resume=cut")
    assert read_from_disk == ["last.ckpt", "best.ckpt", "best.ckpt"]  # the last one after training, to test
    read_from_disk.clear()
    # The finished run's last state is its best: two files, so that damage in place hits one of them.
    best, last = Path("cut/checkpoints/best.ckpt"), Path("cut/checkpoints/last.ckpt")
    assert best.read_bytes() == last.read_bytes()
    assert not best.samefile(last)


@pytest.mark.parametrize("loss", ["damaged", "missing"])
def test_a_best_checkpoint_that_is_lost_is_told_and_the_run_recovers(
    loss: str, stopped: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the best at step 6 and the run at step 9, the next validation becomes the best."""
    best = Path("cut/checkpoints/best.ckpt")
    best.write_bytes(best.read_bytes()[:-500]) if loss == "damaged" else best.unlink()
    capsys.readouterr()
    cut = experiments.run("resume=cut")
    said = capsys.readouterr().out
    assert said.index("the best state is lost; step 9 stands in for it") < said.index("run directory cut")
    assert {"val/loss", "test/loss"} <= cut.metrics.keys()
    kept = best.with_name("best.ckpt.damaged")
    assert kept.exists() == (loss == "damaged")


@pytest.mark.parametrize("content", [b"", b'{"test/loss": 0.', b"[1]", b'{"test/loss": "x"}', b"\xff\xfe"])
def test_a_finished_run_with_damaged_metrics_tests_again(
    content: bytes, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = experiments.run(tiny, "run_dir=full").metrics
    Path("full/metrics.json").write_bytes(content)
    after = experiments.run("resume=full").metrics
    assert "metrics.json is damaged: the run tests again" in capsys.readouterr().out
    for key in ("val/loss", "test/loss", "steps", "epochs"):
        assert after[key] == before[key]
    assert Path("full/metrics.json.damaged").read_bytes() == content
    assert json.loads(Path("full/metrics.json").read_text())["test/loss"] == before["test/loss"]


def test_a_lost_best_checkpoint_comes_back_from_an_equal_last_one(
    fragile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    full = experiments.run(fragile, "run_dir=full")
    interrupt(fragile, "run_dir=cut", at=("test", 1, signal.SIGTERM))
    Path("cut/checkpoints/best.ckpt").write_bytes(b"junk")
    cut = experiments.run("resume=cut")
    assert "best.ckpt is restored from last.ckpt" in capsys.readouterr().out
    assert_same_runs(full.run_dir, cut.run_dir)


def test_what_a_killed_writer_left_half_written_is_removed(stopped: dict[str, Any]) -> None:
    Path("cut/checkpoints/.last.ckpt.12345").write_bytes(b"half")
    experiments.run("resume=cut")
    assert sorted(p.name for p in Path("cut/checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_tensorboard_shows_each_point_once_after_a_resume(stopped: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    experiments.run("resume=cut")
    events = EventAccumulator("cut/tensorboard")
    events.Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == list(range(2, EPOCHS * STEPS_PER_EPOCH + 1, 2))


# ---------------------------------------------------------------------------------- real processes


@pytest.mark.slow
def test_real_processes_are_killed_and_continue(tiny: dict[str, Any], work: Path) -> None:
    """SIGKILL before the first checkpoint and within an epoch, SIGTERM, Ctrl-C: four processes at once."""
    settings = {
        **tiny,
        "name": "killed",
        "model": {"name": "mlp", "hidden": [8], "norm": "batch_norm", "dropout": 0.1},
        "data": {**tiny["data"], "batch_size": 10, "augment": {"shift": 1}},
        "schedule": {"name": "warmup_cosine"},
    }
    settings["trainer"] |= {
        "max_epochs": 8,
        "ema_decay": 0.9,
        "checkpoint_every_n_steps": 25,
        "log_every_n_steps": 20,
    }
    path = work / "killed.yaml"
    path.write_text(to_yaml(settings))
    cases = {
        "early": (signal.SIGKILL, -9, "config.yaml"),
        "kill": (signal.SIGKILL, -9, "checkpoints/last.ckpt"),
        "term": (signal.SIGTERM, 143, "checkpoints/best.ckpt"),
        "ctrl-c": (signal.SIGINT, 130, "checkpoints/last.ckpt"),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "experiments.run", str(path), f"run_dir={name}"],
            env=environment,
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in cases
    }
    try:
        deadline = time.monotonic() + 400  # only so that a defect does not hang
        waiting = dict(cases)
        while waiting and time.monotonic() < deadline:
            time.sleep(0.02)
            for name, (signum, _, awaited) in list(waiting.items()):
                if (work / name / awaited).exists():
                    processes[name].send_signal(signum)
                    del waiting[name]
        assert not waiting, waiting
        for name, (signum, status, _) in cases.items():
            _, err = processes[name].communicate(timeout=60)
            assert processes[name].returncode == status, err
            if signum != signal.SIGKILL:
                assert f"resume={name}" in err
                assert len(err.splitlines()) == 2
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
    steps = {
        name: checkpoint.load(work / name / "checkpoints" / "last.ckpt")["global_step"]
        for name in cases
        if (work / name / "checkpoints" / "last.ckpt").exists()
    }
    assert {"kill", "term", "ctrl-c"} <= steps.keys()
    torch.set_num_threads(1)
    full = experiments.run(path, "run_dir=full")
    assert all(step < full.metrics["steps"] for step in steps.values()), steps
    for name in cases:
        cut = experiments.run(path, f"run_dir={name}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


def test_a_kill_between_the_two_files_of_an_epoch_loses_nothing(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiments.run(tiny, "run_dir=whole")
    replace, renamed = os.replace, []

    def killed(source: Any, target: Any) -> None:
        if Path(target).suffix == ".ckpt":
            renamed.append(target)
            if len(renamed) == 4:  # of two epochs with a better validation each, the second last.ckpt
                raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(Interrupted):
            experiments.run(tiny, "run_dir=cut")
    assert len(renamed) == 4
    Path("cut/.metrics.json.12345").write_text("half")
    continued = experiments.run(tiny, "run_dir=cut", "resume=auto")
    assert {k: v for k, v in continued.metrics.items() if k.startswith(("val", "test"))} == {
        k: v for k, v in whole.metrics.items() if k.startswith(("val", "test"))
    }
    assert_same_runs(whole.run_dir, continued.run_dir)
    assert not list(Path("cut").glob(".*"))


def test_a_run_cannot_end_before_where_it_is(stopped: dict[str, Any]) -> None:
    before = Path("cut", "config.yaml").read_text()
    with pytest.raises(UserError, match="has already done"):
        experiments.run(stopped, "run_dir=cut", "resume=auto", "trainer.max_steps=1")
    assert Path("cut", "config.yaml").read_text() == before


def test_a_chain_that_was_moved_has_the_same_settings(work: Path) -> None:
    def check(new: str, old: str) -> None:
        check_same({"data": {"path": new}}, {"data": {"path": old}}, work / "chain" / "train")

    there = str(work / "chain" / "extract" / "states.safetensors")
    check(there, "before/chain/extract/states.safetensors")
    for old in ("before/chain/other/states.safetensors", "states.safetensors", "extract/other"):
        with pytest.raises(UserError, match=r"data\.path"):
            check(there, old)
    elsewhere = str(work / "extract" / "states.safetensors")
    with pytest.raises(UserError, match=r"data\.path"):
        check(elsewhere, "before/extract/states.safetensors")
    (work / "before" / "chain" / "extract").mkdir(parents=True)
    copied = work / "before" / "chain" / "extract" / "states.safetensors"
    copied.touch()
    with pytest.raises(UserError, match=r"data\.path"):  # a copy: the first one may differ
        check(there, str(copied))
    seeded = "chain/extract/seed_1/states.safetensors"
    check_same(
        {"data": {"path": str(work / seeded)}},
        {"data": {"path": f"elsewhere/{seeded}"}},
        work / "chain" / "train" / "seed_1",
    )
