"""Which state is best, when one is saved, and how a process leaves on a signal."""

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import experiments
from experiments.callbacks.checkpoints import Checkpoints
from experiments.training import checkpoint
from experiments.training.checkpoint import AtomicCheckpointIO


def validate(callback: Checkpoints, **metrics: float) -> bool:
    """One validation with these metrics; whether it was the best."""
    trainer: Any = SimpleNamespace(
        sanity_checking=False,
        global_step=7,
        is_last_batch=True,  # the epoch's end saves
        state=SimpleNamespace(fn="fit"),
        callback_metrics={k.replace("_", "/"): torch.tensor(v) for k, v in metrics.items()},
    )
    callback._improved = False
    callback.on_validation_end(trainer, None)  # type: ignore[arg-type]
    return callback._improved


@pytest.mark.parametrize(
    ("mode", "better"), [("min", [True, False, False, True]), ("max", [True, True, False, False])]
)
def test_the_first_and_each_strictly_better_validation_is_the_best(mode: str, better: list[bool]) -> None:
    callback = Checkpoints(folder=Path("x"), monitor="val/loss", mode=mode)
    assert [
        validate(callback, val_loss=score, val_accuracy=-score) for score in (2.0, 3.0, 3.0, 1.0)
    ] == better
    best = 1.0 if mode == "min" else 3.0
    assert callback.best_metrics == {"val/loss": best, "val/accuracy": -best}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_score_that_is_not_a_number_is_the_best_only_until_there_is_one(mode: str) -> None:
    callback = Checkpoints(folder=Path("x"), monitor="val/loss", mode=mode)
    scores = [float("nan"), float("nan"), 5.0, float("nan")]
    assert [validate(callback, val_loss=score) for score in scores] == [True, False, True, False]
    assert callback.best_score == 5.0


def test_the_best_survives_a_checkpoint() -> None:
    callback = Checkpoints(folder=Path("x"), monitor="val/loss")
    validate(callback, val_loss=2.0)
    again = Checkpoints(folder=Path("x"), monitor="val/loss")
    again.load_state_dict(callback.state_dict())
    assert not validate(again, val_loss=2.5)
    assert validate(again, val_loss=1.5)


def test_a_state_within_an_epoch_is_saved_when_due(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    write = AtomicCheckpointIO.save_checkpoint

    def watched(self: Any, state: Any, path: Any, storage_options: Any = None) -> None:
        saved.append((state["global_step"], Path(path).name))
        write(self, state, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", watched)
    result = experiments.run(tiny, "trainer.checkpoint_every_n_steps=4")
    # At 6 and 12 the epoch's end saves its best, which last.ckpt is then too; 12 is due as well, saved once.
    assert saved == [(4, "last.ckpt"), (6, "best.ckpt"), (8, "last.ckpt"), (12, "best.ckpt")]
    assert checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")["global_step"] == 12


def test_a_second_signal_within_a_second_is_the_same_one_and_a_later_one_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    callback = Checkpoints(folder=Path("x"), monitor="val/loss")
    now = [100.0]
    monkeypatch.setattr("experiments.callbacks.checkpoints.time.monotonic", lambda: now[0])
    callback._handlers = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    callback._note(signal.SIGINT, None)
    now[0] += 0.5
    callback._note(signal.SIGINT, None)
    now[0] += 1.0
    with pytest.raises(KeyboardInterrupt):
        callback._note(signal.SIGINT, None)


def test_a_run_in_another_thread_leaves_the_signals_alone(tiny: dict[str, Any]) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(experiments.run(tiny, "trainer.max_epochs=1")))
    thread.start()
    thread.join()
    assert results[0].metrics["epochs"] == 1
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
