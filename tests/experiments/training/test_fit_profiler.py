"""A profiler prints its table, and its files are in the run directory."""

from typing import Any

import pytest

import experiments
from experiments.training.fit_profiler import FOLDER, KINDS, ROWS_SHOWN


@pytest.mark.filterwarnings("ignore:The PyTorch Profiler default schedule:UserWarning")
@pytest.mark.parametrize("name", KINDS)
def test_the_table_is_printed_once_and_written(
    name: str, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = experiments.run(tiny, f"trainer.profiler={name}")
    lines = capsys.readouterr().out.splitlines()
    (said,) = [number for number, line in enumerate(lines) if line.startswith("profile: ")]
    path = result.run_dir / FOLDER / f"{name}.txt"
    assert lines[said].startswith(f"profile: {path}")
    table = path.read_text(encoding="utf-8")
    assert "train" in table
    (start,) = [number for number, line in enumerate(lines) if "Profiler Report" in line]
    assert 3 < said - start <= ROWS_SHOWN
    assert all(line in table for line in lines[start:said])
    assert ("traces beside it" in lines[said]) == (name == "pytorch")
    assert bool(list(path.parent.glob("*.pt.trace.json"))) == (name == "pytorch")
