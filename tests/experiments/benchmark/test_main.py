import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark.harness import Report, Sample
from experiments.errors import RunError, UserError


class Stub:
    """Stands for a benchmark's module."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def add_arguments(self, parser) -> None:
        parser.add_argument("--size", type=int, default=1)

    def run(self, options) -> Report:
        if self.error:
            raise self.error
        return Report(
            title="Stub", rows=[{"size": options.size, "s": Sample((1.0,) * (options.repeats or 3))}]
        )


def install(monkeypatch, stub: Stub) -> None:
    monkeypatch.setattr(command, "available", lambda: {"stub": "What it measures."})
    monkeypatch.setattr(command.importlib, "import_module", lambda name: stub)


def test_runs_by_name_with_the_options_of_the_benchmark(monkeypatch, tmp_path, capsys) -> None:
    install(monkeypatch, Stub())
    path = tmp_path / "out.json"
    assert command.main(["--repeats", "2", "stub", "--size", "7", "--json", str(path)]) == 0
    assert "Stub" in capsys.readouterr().out
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["rows"] == [
        {"size": 7, "s": {"mean": 1.0, "std": 0.0, "median": 1.0, "values": [1.0, 1.0]}}
    ]
    assert written["command"][:4] == ["python", "-m", "experiments.benchmark", "--repeats"]


def test_default_path_is_below_runs(monkeypatch, tmp_path) -> None:
    install(monkeypatch, Stub())
    monkeypatch.chdir(tmp_path)
    assert command.main(["stub"]) == 0
    assert (tmp_path / "runs" / "benchmarks" / "stub.json").is_file()


@pytest.mark.parametrize(("error", "status"), [(UserError("no such data"), 2), (RunError("it diverged"), 1)])
def test_an_expected_failure_is_one_line(
    monkeypatch, tmp_path, capsys, error: Exception, status: int
) -> None:
    install(monkeypatch, Stub(error))
    monkeypatch.chdir(tmp_path)
    assert command.main(["stub"]) == status
    assert capsys.readouterr().err == f"error: {error}\n"
    assert list(tmp_path.iterdir()) == []


def test_unknown_name_lists_the_known_ones(capsys) -> None:
    assert command.main(["nonesuch"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'nonesuch'" in error
    assert all(name in error for name in command.available())


@pytest.mark.parametrize("name", list(command.available()))
def test_no_benchmark_ignores_an_option_that_all_have(name: str) -> None:
    source = Path(command.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    assert "options.repeats" in source
    assert "options.quick" in source


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["--repeats", "x"], ["--nonesuch"]])
def test_wrong_options_end_with_status_2(arguments: list[str]) -> None:
    assert command.main(arguments) == 2


def test_no_name_ends_with_status_2(capsys) -> None:
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("error: give the name of a benchmark")


def test_list_prints_every_benchmark_with_its_docstring_and_imports_no_torch() -> None:
    code = "from experiments.benchmark.__main__ import *; main(['--list']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    *lines, torch_imported = done.stdout.splitlines()
    assert torch_imported == "False"
    assert [line.split()[0] for line in lines if line] == list(command.available())
    assert all(summary.endswith(".") for summary in command.available().values())
