"""All code that uses Lightning's internals, so that a new version of Lightning needs changes here only.

What Lightning documents (hooks, `trainer.global_step`, `trainer.is_last_batch` …) is used directly elsewhere.
Each function here relies on undocumented behaviour; a test of the same name fails when Lightning changes it.
"""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils._pytree import tree_leaves

from experiments.errors import Interrupted

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""Hooks of callbacks that Lightning calls in every training step."""

NEVER = 2**62
"""Value of Lightning's interval between validations (in batches) that means no validation."""

# Signals ----------------------------------------------------------------------------------------------------


def skip_signal_broadcast(trainer: L.Trainer) -> None:
    """Switch off Lightning's broadcast, before every batch, of whether its handler saw a SIGTERM.

    `Checkpoints` replaces that handler, so the broadcast would only cost time.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


@contextlib.contextmanager
def exits_named(run_dir: Path) -> Iterator[None]:
    """Turn Lightning's `SystemExit` into `Interrupted`.

    Outside training, Lightning raises `SIGTERMException` on SIGTERM and calls `sys.exit(1)` on Ctrl-C.
    """
    try:
        yield
    except SystemExit as error:
        last = run_dir / "checkpoints" / "last.ckpt"
        signum = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
        raise Interrupted(signum, run_dir, last if last.exists() else None) from error


def watch_ranks(start: Callable[[Sequence["subprocess.Popen[bytes]"]], None]) -> None:
    """Call `start` with the processes that Lightning has started as other ranks.

    It replaces Lightning's observer, which kills all processes without a message when one of them fails.
    """
    subprocess_script._launch_process_observer = start  # type: ignore[assignment]


# When to validate and to stop -------------------------------------------------------------------------------


def validate_after_this_batch(trainer: L.Trainer, due: bool) -> None:
    """Decide whether a validation follows this batch, if the Trainer counts batches between validations.

    Lightning validates when the number of batches so far is a multiple of `val_check_batch`.
    """
    trainer.val_check_batch = 1 if due else NEVER


def validation_is_due(trainer: L.Trainer) -> bool:
    """Return what `validate_after_this_batch` decided; `False` where validations go by epochs."""
    return trainer.check_val_every_n_epoch is None and trainer.val_check_batch == 1


def validate_this_epoch(trainer: L.Trainer) -> None:
    """Validate at the end of this epoch too, in a Trainer that validates every so many epochs."""
    if trainer.check_val_every_n_epoch is not None:
        trainer.check_val_every_n_epoch = 1


def stop_after_this_batch(trainer: L.Trainer) -> None:
    """End the fit after this batch; Lightning validates first, even within an epoch."""
    trainer.should_stop = True


def train_no_more(trainer: L.Trainer) -> None:
    """End a resumed fit before its first batch; call this in `on_fit_start`."""
    trainer.should_stop = True


# Where a fit is ---------------------------------------------------------------------------------------------


def skip_empty_hooks(trainer: L.Trainer) -> None:
    """Switch off the hooks of a training step that a callback doesn't define.

    Lightning would call each of them within a context for its profiler, a hundred calls in a step.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in STEP_HOOKS:
            is_own = hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
            if not is_own:
                setattr(callback, hook, None)


def batches_done(trainer: L.Trainer) -> int:
    """Return the number of training batches so far, over all epochs and before a resume too."""
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1


def show_metrics(trainer: L.Trainer, values: dict[str, Any]) -> None:
    """Add values to `trainer.callback_metrics` without logging them.

    Lightning returns the dictionary that it keeps, not a copy of it.
    """
    trainer.callback_metrics.update(values)


def log_no_hyperparameters(part: L.LightningModule | L.LightningDataModule) -> None:
    """Keep what a plain module saved with `save_hyperparameters` from the loggers; they get the config."""
    part._log_hyperparams = False


# Loop counters in a checkpoint ------------------------------------------------------------------------------


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Return the number of epochs that were complete when a checkpoint was written."""
    return checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]


def is_between_epochs(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint was written between two epochs."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return epochs["completed"] == epochs["started"]


def correct_counters(checkpoint: dict[str, Any]) -> None:
    """Rewrite the loop counters of a new checkpoint, so that they give the position of the run.

    Lightning counts a batch or an epoch as complete only after the hooks that save. So its counters do not
    tell a complete epoch from the middle of an epoch. There are three cases:

    - The epoch is over: the counters become those of the moment before the next epoch.
    - The fit ended within the epoch (`max_steps`, time): Lightning counts the epoch as processed. The
      counters become those of the moment after the last optimizer step.
    - Within an epoch, after a batch or a validation: also the moment after the last optimizer step.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    epoch_is_over = epochs["current"]["processed"] == epochs["current"]["started"]
    if epoch_is_over and batches["is_last_batch"]:
        for counters in (epochs["total"], epochs["current"]):
            counters["completed"] = counters["processed"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
        return
    if epoch_is_over:
        for counters in (epochs["total"], epochs["current"]):
            counters["processed"] -= 1
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    for counters in (batches["total"], batches["current"]):
        counters["completed"] = counters["processed"] - 1  # Lightning completes the batch when it resumes


def count_begun_epoch(trainer: L.Trainer) -> None:
    """Count the epoch within which a fit had ended, after a resume that trained no more.

    `correct_counters` has made the counters those of a fit that goes on. The epoch and the step of the test
    would be one too small.
    """
    trainer.fit_loop.epoch_progress.increment_processed()
    trainer.fit_loop.epoch_progress.increment_completed()
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1


def loader_states(checkpoint: dict[str, Any]) -> list[Any]:
    """Return the states of the training loaders in a checkpoint."""
    return checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])


def start_next_epoch(trainer: L.Trainer, states: Sequence[Any]) -> None:
    """Start a fit that resumes between two epochs with the next epoch.

    Lightning restores the states of the loaders only within an epoch. Between two epochs the order of the
    samples would start again.
    """
    trainer.fit_loop.epoch_loop.restarting = False
    stateful = [x for x in tree_leaves(trainer.train_dataloader) if hasattr(x, "load_state_dict")]
    for loader, state in zip(stateful, states, strict=True):
        loader.load_state_dict(state)
