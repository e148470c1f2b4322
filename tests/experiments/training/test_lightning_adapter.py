"""What the suite relies on in Lightning without a promise: a failure here says what a new version changed."""

import inspect
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities.exceptions import SIGTERMException

from experiments.errors import Interrupted
from experiments.training import lightning_adapter as adapter
from experiments.training.lightning_adapter import NEVER

BATCHES = 4


class Batches:
    """A loader of four batches that remembers where it is."""

    def __init__(self) -> None:
        self.epoch = 0
        self.taken_up: Any = None

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.epoch += 1
        return iter(torch.ones(BATCHES, 1, 2))

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.taken_up = state


class Model(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.log("train/loss", 1.0)
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", 2.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Probe(Callback):
    """Notes the steps after which Lightning validates and ends epochs; does something after each batch."""

    def __init__(self, after_batch: Callable[[L.Trainer, int], object] = lambda trainer, batch_idx: None):
        self.after_batch = after_batch
        self.validated: list[int] = []
        self.epochs_ended: list[int] = []
        self.saved: dict[int, dict[str, Any]] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.after_batch(trainer, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        self.validated.append(trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        self.epochs_ended.append(trainer.current_epoch)


def fit(
    *callbacks: Callback,
    module: L.LightningModule | None = None,
    loader: Batches | None = None,
    ckpt_path: Any = None,
    **more: Any,
) -> L.Trainer:
    settings: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 0, "logger": False, **more}
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module or Model(), loader or Batches(), Batches(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


class Saving(Callback):
    """Saves at the end of the first epoch, or after the second batch."""

    def __init__(self, path: Path, *, within: bool, corrected: bool) -> None:
        self.path, self.within, self.corrected = path, within, corrected

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.within and trainer.global_step == 2:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        if not self.within and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        if self.corrected:
            adapter.correct_counters(checkpoint)


def saved(path: Path, *, within: bool = False, corrected: bool = True) -> dict[str, Any]:
    fit(Saving(path, within=within, corrected=corrected))
    return torch.load(path, weights_only=True)


def test_skip_signal_broadcast() -> None:
    loop = type(L.Trainer(accelerator="cpu", logger=False).fit_loop.epoch_loop)
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(loop.advance), (
        "Lightning no longer calls _broadcast_sigterm_tensor before a batch: skip_signal_broadcast can go, "
        "unless another call has taken its place"
    )
    trainer = fit(Probe(lambda trainer, _: adapter.skip_signal_broadcast(trainer)))
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None


@pytest.mark.parametrize(
    ("raised", "signum"), [(KeyboardInterrupt, signal.SIGINT), (SIGTERMException, signal.SIGTERM)]
)
def test_exits_named(raised: type[BaseException], signum: int, tmp_path: Path) -> None:
    def stop(trainer: L.Trainer, batch_idx: int) -> None:
        raise raised

    with pytest.raises(Interrupted) as caught, adapter.exits_named(tmp_path):
        fit(Probe(stop))
    assert (caught.value.signum, caught.value.path) == (signum, None), (
        f"Lightning no longer turns {raised.__name__} into a SystemExit of its own"
    )
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(Interrupted) as caught, adapter.exits_named(tmp_path):
        raise SystemExit(1)
    assert caught.value.path == tmp_path / "checkpoints" / "last.ckpt"


def test_validate_after_this_batch() -> None:
    due: list[bool] = []

    def decide(trainer: L.Trainer, batch_idx: int) -> None:
        adapter.validate_after_this_batch(trainer, trainer.global_step in (3, 5))
        due.append(adapter.validation_is_due(trainer))

    probe = Probe(decide)
    fit(probe, check_val_every_n_epoch=None, val_check_interval=NEVER)
    assert probe.validated == [3, 5], "Lightning no longer reads trainer.val_check_batch after each batch"
    assert [step for step, is_due in enumerate(due, 1) if is_due] == [3, 5]


def test_validate_this_epoch() -> None:
    probe = Probe(lambda trainer, _: trainer.current_epoch == 1 and adapter.validate_this_epoch(trainer))
    fit(probe, check_val_every_n_epoch=9, max_epochs=3)
    assert probe.validated == [2 * BATCHES, 3 * BATCHES], (
        "Lightning no longer reads trainer.check_val_every_n_epoch at the end of each epoch"
    )


def test_stop_after_this_batch() -> None:
    probe = Probe(lambda trainer, batch_idx: batch_idx == 1 and adapter.stop_after_this_batch(trainer))
    trainer = fit(probe)
    assert trainer.global_step == 2
    assert probe.validated == [2], "Lightning no longer validates within an epoch before it stops"


class EmptyHooksSkipped(Callback):
    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        adapter.skip_empty_hooks(trainer)


def test_skip_empty_hooks() -> None:
    done: list[int] = []
    trainer = fit(Probe(lambda _, batch_idx: done.append(batch_idx)), EmptyHooksSkipped(), profiler="simple")
    assert done == [*range(BATCHES), *range(BATCHES)]
    called = [name for name in trainer.profiler.recorded_durations if name.startswith("[Callback]")]  # type: ignore[attr-defined]
    in_steps = [name for name in called if name.endswith(adapter.STEP_HOOKS)]
    assert len(in_steps) == 1, "Lightning no longer looks whether a hook is callable"
    assert in_steps[0].startswith("[Callback]Probe")


def test_skip_empty_hooks_keeps_those_of_an_object() -> None:
    """Lightning's `LambdaCallback` has its hooks as attributes of the object."""
    done: list[int] = []
    fit(LambdaCallback(on_train_batch_end=lambda *args: done.append(args[-1])), EmptyHooksSkipped())
    assert done == [*range(BATCHES), *range(BATCHES)]


def test_batches_done() -> None:
    done: list[int] = []
    fit(Probe(lambda trainer, _: done.append(adapter.batches_done(trainer))), accumulate_grad_batches=2)
    assert done == list(range(1, 2 * BATCHES + 1)), "Lightning's total_batch_idx means something else"


def test_watch_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is handed over, not started."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(subprocess_script, "_launch_process_observer", None)  # put back after the test
    launcher = subprocess_script._SubprocessScriptLauncher(LightningEnvironment(), 2, 1)
    monkeypatch.setattr(launcher, "_call_children_scripts", lambda: launcher.procs.append("rank 1"))  # type: ignore[arg-type]
    seen: list[Any] = []
    adapter.watch_ranks(seen.extend)
    launcher.launch(lambda: None)
    assert seen == ["rank 1"], "Lightning hands over the other ranks in another way"


def test_show_metrics() -> None:
    first = Probe(lambda trainer, i: i == 0 and adapter.show_metrics(trainer, {"shown": torch.tensor(7.0)}))
    seen: list[set[str]] = []
    second = Probe(lambda trainer, _: seen.append(set(trainer.callback_metrics)))
    fit(first, second, max_epochs=1)
    assert all({"shown", "train/loss"} <= names for names in seen), (
        "trainer.callback_metrics is no longer the dictionary that Lightning keeps"
    )


def test_correct_counters_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    as_lightning = saved(tmp_path / "raw.ckpt", corrected=False)
    loops = as_lightning["loops"]["fit_loop"]
    assert loops["epoch_progress"]["current"] == counters(1, 1, 1, 0)
    assert loops["epoch_loop.batch_progress"]["current"] == counters(*4 * [BATCHES])
    assert (adapter.epochs_done(as_lightning), adapter.is_between_epochs(as_lightning)) == (0, False), (
        "Lightning now counts an epoch as complete when its end is saved: correct_counters may be needless"
    )
    ours = saved(tmp_path / "ours.ckpt")
    assert (adapter.epochs_done(ours), adapter.is_between_epochs(ours)) == (1, True)

    loader = Batches()
    fit(loader=loader, ckpt_path=tmp_path / "ours.ckpt")
    assert loader.taken_up is None, (
        "Lightning now restores the loaders between two epochs: start_next_epoch may be needless"
    )
    probe = Probe()
    fit(Starting(ours), probe, loader=loader, ckpt_path=tmp_path / "ours.ckpt")
    assert probe.epochs_ended == [1]
    assert probe.validated == [2 * BATCHES]
    assert [loader.taken_up] == adapter.loader_states(ours)


class Starting(Callback):
    def __init__(self, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        adapter.start_next_epoch(trainer, adapter.loader_states(self.checkpoint))


def test_correct_counters_within_an_epoch(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "within.ckpt", within=True)
    assert (adapter.epochs_done(checkpoint), adapter.is_between_epochs(checkpoint)) == (0, False)
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert batches == counters(2, 2, 2, 1), "Lightning counts the batch that is saved in another way"
    steps: list[int] = []
    probe = Probe(lambda trainer, _: steps.append(trainer.global_step))
    trainer = fit(probe, ckpt_path=tmp_path / "within.ckpt", max_epochs=1)
    assert steps == [3, 4]
    assert (trainer.global_step, trainer.current_epoch, probe.validated) == (BATCHES, 1, [BATCHES])


def counters(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


class Recorded(Model):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_log_no_hyperparameters(tmp_path: Path) -> None:
    logged = []
    for module in (Recorded(), Recorded()):
        if logged:
            adapter.log_no_hyperparameters(module)
        logger = CSVLogger(tmp_path, version=len(logged))
        fit(module=module, logger=logger)
        logged.append(dict(logger.experiment.hparams))
    assert logged == [{"width": 3}, {}]
