"""Write the event files of TensorBoard: errors name the file, and a resumed run's file is read last."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from experiments.errors import RunError, writing

PREFIX = "events.out.tfevents."
"""Start of the name of an event file; the seconds of its creation follow, with ten digits."""


class EventLog(TensorBoardLogger):
    """A Lightning logger that writes to `tensorboard/` in the run directory.

    Args:
        resumed_step: The step that a run resumes from. TensorBoard then hides what was logged after it.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        purge_step = None if resumed_step is None else resumed_step + 1
        super().__init__(
            run_dir, name="", version="tensorboard", default_hp_metric=False, purge_step=purge_step
        )

    @property
    def log_dir(self) -> str:
        """Return the folder of the event files; Lightning's expands `$HOME` and `~` in it."""
        return str(Path(self.save_dir, "tensorboard"))

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """Return the writer; the first call creates its file."""
        if self._experiment is None:
            self._experiment = _EventWriter(self.log_dir, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one scalar for each metric, without the epoch, which would be the first chart.

        Lightning's method hides what went wrong.
        """
        for name, value in metrics.items():
            if name != "epoch":
                self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def save(self) -> None:
        """Do nothing; Lightning would write `hparams.yaml`, but `config.yaml` has the settings."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file. After a failure, an error of the file must not hide the cause."""
        with contextlib.suppress(*([] if status == "success" else [RunError])):
            super().finalize(status)


class _EventWriter(SummaryWriter):
    """A `SummaryWriter` whose errors name the event file.

    A thread writes the events. Its error is raised by the next call that adds or flushes.
    """

    def _get_file_writer(self) -> Any:
        is_new = self.file_writer is None
        with writing(Path(self.log_dir)):
            if is_new and self.purge_step is not None:
                let_next_file_be_last(Path(self.log_dir))
            file_writer = super()._get_file_writer()
        if is_new:
            file_writer.event_writer = _NamedErrors(file_writer.event_writer)
        return file_writer


class _NamedErrors:
    """An `EventFileWriter` whose errors name its file."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        folder = Path(inner.get_logdir())
        self.path = max(folder.glob(f"{PREFIX}*"), default=folder)

    def get_logdir(self) -> str:
        """Return the folder of the file."""
        return self._inner.get_logdir()

    def add_event(self, event: Any) -> None:
        """Queue an event for the thread."""
        with writing(self.path):
            self._inner.add_event(event)

    def flush(self) -> None:
        """Wait until all events are in the file."""
        with writing(self.path):
            self._inner.flush()

    def close(self) -> None:
        """Flush, end the thread and close the file."""
        with writing(self.path):
            self._inner.close()


def let_next_file_be_last(folder: Path) -> None:
    """Rename event files if a new one would not be the last by name.

    TensorBoard reads the files in the order of their names, which begin with the time. The file of a resumed
    run hides what earlier files hold after its step. It must be read after them, even if the clock was set
    back, or if the run stopped and resumed within one second.
    """
    files = sorted(folder.glob(f"{PREFIX}*"))
    if not files or files[-1].name.removeprefix(PREFIX) < f"{int(time.time()):010d}":
        return
    for number, file in enumerate(files):  # a kill in between keeps the order
        _, _, rest = file.name.removeprefix(PREFIX).partition(".")
        file.rename(folder / f"{PREFIX}{number:010d}.{rest}")
