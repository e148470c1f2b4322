"""Output never ends a run: characters are replaced, and a closed pipe, terminal or stream is dropped."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.console import print_table
from experiments.terminal_streams import lasting


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        encoding="latin-1",
        env={**os.environ, "PY": sys.executable, **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_listing_replaces_characters_that_the_output_lacks(encoding: str) -> None:
    done = shell("$PY -m experiments.run --list", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mnist_cnn" in done.stdout


def test_writing_goes_on_after_the_reader_has_left() -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii", errors="replace") as stream:
        kept = lasting(stream)
        print("naïve", file=kept)
        assert os.read(reader, 100) == b"na?ve\n"
        os.close(reader)
        for _ in range(3):
            print("nobody reads this", file=kept, flush=True)
        print("nor this, written elsewhere", file=stream, flush=True)


RUN = "$PY -W error -m experiments.run tiny.yaml run_dir=out trainer.progress_bar=true"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["| head -1", ">&- 2>&-", "2>&1 | true"])
def test_a_run_goes_on_without_its_terminal_also_in_ascii(end: str, tiny_file: Path) -> None:
    done = shell(f"{RUN} {end}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "SIG" not in done.stderr
    assert Path("out/metrics.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_run_ignores_the_end_of_its_session(tiny_file: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", "tiny.yaml", "run_dir=out"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    run.stdout.readline()  # the outline, printed once the run outlives its terminal
    run.send_signal(signal.SIGHUP)
    run.stdout.close()
    assert run.wait(120) == 0
    assert Path("out/metrics.json").exists()


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_number_of_a_table_is_cut(width: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("variant", *(f"test/metric_{i}" for i in range(6)))
    values = [f"{i}.12345 ± 0.67891" for i in range(6)]
    table.add_row("a variant with a name of several words", *values)
    written = io.StringIO()
    print_table(table, Console(file=written, width=width))
    assert all(value in written.getvalue() for value in values)
    assert "…" not in written.getvalue()
