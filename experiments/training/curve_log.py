"""`metrics.csv`: every logged value, one a row, appended as it comes and cut back when a run resumes."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from experiments.training.run_directory import CURVE_HEADER, read_curve_rows, write_csv


class CurveLog(Logger):
    """A Lightning logger that appends `step,epoch,name,value` rows.

    One value a row, because different metrics are logged at different steps: nothing is left empty, a new
    metric needs no new column, and a killed run leaves whole rows.

    Args:
        path: The CSV file.
        resumed_step: When a run resumes, rows logged after this step are dropped, and those of an earlier
            test, since they come again.
    """

    def __init__(self, path: Path, *, resumed_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.resumed_step = resumed_step
        self._file: Any = None

    @property
    def name(self) -> str:
        """Lightning asks for one; the run directory has the name."""
        return ""

    @property
    def version(self) -> str:
        """Lightning asks for one; the run directory is the version."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row for each metric but `epoch`, which is a column."""
        if self._file is None:
            self._open()
        epoch = metrics.get("epoch", math.nan)
        number = "" if math.isnan(epoch) else int(epoch)
        rows = ((step, number, k, repr(float(v))) for k, v in metrics.items() if k != "epoch")
        csv.writer(self._file, lineterminator="\n").writerows(rows)
        self._file.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; a later value opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        if self.resumed_step is not None and self.path.exists():
            kept = [
                row
                for row in read_curve_rows(self.path)
                if int(row[0]) <= self.resumed_step and not row[2].startswith("test/")
            ]
            write_csv(
                self.path, [CURVE_HEADER, *kept]
            )  # whole or not at all: a kill here must not cost the curve
        self.resumed_step = None
        new = not self.path.exists()
        self._file = self.path.open("a", encoding="utf-8", newline="")
        if new:
            csv.writer(self._file, lineterminator="\n").writerow(CURVE_HEADER)
