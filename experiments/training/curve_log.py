"""Write `metrics.csv`: one row for each logged value."""

import contextlib
import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from experiments.errors import RunError, writing
from experiments.training import recovery
from experiments.training.curve_file import CURVE_HEADER, is_damaged_curve, read_curve_rows
from experiments.training.run_directory import write_csv


class CurveLog(Logger):
    """A Lightning logger that appends `step,epoch,name,value` rows.

    Different metrics are logged at different steps, so each value has its own row. A new metric needs no new
    column, and a killed run leaves whole rows.

    Args:
        resumed_step: The step that a run resumes from. Rows of later steps and of a test are dropped, because
            the resumed run logs them again.
    """

    def __init__(self, path: Path, *, resumed_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.resumed_step = resumed_step
        self._file: Any = None

    @property
    def name(self) -> str:
        """Return an empty name; the run directory has one."""
        return ""

    @property
    def version(self) -> str:
        """Return an empty version; each run has its own directory."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; `config.yaml` holds the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row for each metric; `epoch` is a column."""
        epoch = metrics.get("epoch", math.nan)
        number = "" if math.isnan(epoch) else int(epoch)
        rows = ((step, number, k, repr(float(v))) for k, v in metrics.items() if k != "epoch")
        with writing(self.path):
            if self._file is None:
                self._open()
            csv.writer(self._file, lineterminator="\n").writerows(rows)
            self._file.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; the next value opens it again."""
        if self._file is None:
            return
        file, self._file = self._file, None
        # After a failure, an error of this file must not hide the cause.
        with contextlib.suppress(*([] if status == "success" else [RunError])), writing(self.path):
            file.close()

    def _open(self) -> None:
        if self.resumed_step is not None and self.path.exists():
            if is_damaged_curve(self.path):
                recovery.copy_aside(self.path)
            kept = [row for row in read_curve_rows(self.path) if self._is_before(self.resumed_step, row)]
            # Written in one step: a kill here must not lose the curve.
            write_csv(self.path, [CURVE_HEADER, *kept])
        self.resumed_step = None
        new = not self.path.exists()
        self._file = self.path.open("a", encoding="utf-8", newline="")
        if new:
            csv.writer(self._file, lineterminator="\n").writerow(CURVE_HEADER)

    @staticmethod
    def _is_before(resumed_step: int, row: list[str]) -> bool:
        """Return whether a row was logged before the state of this step was saved.

        Lightning logs the validation that follows step n as step n − 1.
        """
        step = int(row[0]) + row[2].startswith("val/")
        return step <= resumed_step and not row[2].startswith("test/")
