"""Profile a fit: its table is printed, and table and trace are files of the run directory."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from experiments.console import say
from experiments.errors import writing
from experiments.training import run_directory

FOLDER = "profile"
ROWS_SHOWN = 30
"""Largest number of lines of a table that are printed; its file has all."""

if TYPE_CHECKING:
    _Base = Profiler
else:
    _Base = object


class _Printed(_Base):
    """Prints the table at the end of training, and writes it to a file; Lightning would only log it."""

    def describe(self) -> None:
        """Print and write the table."""
        table, folder = self.summary().expandtabs(), Path(self.dirpath or ".")
        if table and self.local_rank == 0 and self._stage == "fit":
            path = folder / f"{self.filename}.txt"
            with writing(folder):
                folder.mkdir(exist_ok=True)
            run_directory.write_text(path, table + "\n")
            say("\n".join(line.rstrip() for line in table.strip().splitlines()[:ROWS_SHOWN]))
            traces = " · traces beside it: *.pt.trace.json" if any(folder.glob("*.pt.trace.json")) else ""
            say(f"profile: {path}{traces}")
        self.teardown(stage=self._stage)


class _Simple(_Printed, SimpleProfiler):
    """Measures the time of each hook."""


class _Advanced(_Printed, AdvancedProfiler):
    """Measures each Python function."""


class _PyTorch(_Printed, PyTorchProfiler):
    """Measures each operation, and writes a trace."""


KINDS: dict[str, type[_Printed]] = {"simple": _Simple, "advanced": _Advanced, "pytorch": _PyTorch}


def build_profiler(name: str, run_dir: Path) -> Profiler:
    """Build the profiler of a fit; it writes to `profile/` in the run directory."""
    return KINDS[name](dirpath=run_dir / FOLDER, filename=name)
