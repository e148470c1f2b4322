"""Every way that a command can end is the right status and no more lines than a person needs."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli, compare, console
from experiments.config.check import load_config
from experiments.errors import Interrupted, RunError, UserError

RESUMABLE = Interrupted(signal.SIGTERM, Path("runs/x"), Path("runs/x/checkpoints/last.ckpt"))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("seed = -1: allowed is ≥ 0"), 2, "error: seed = -1: allowed is ≥ 0\n"),
        (RunError("the loss became nan"), 1, "error: the loss became nan\n"),
        (KeyError("x"), 1, "error: KeyError: 'x' (--debug prints the traceback)\n"),
        (ValueError("one\ntwo"), 1, "error: ValueError: one (--debug prints the traceback)\n"),
        (RuntimeError(), 1, "error: RuntimeError: no message (--debug prints the traceback)\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            Interrupted(signal.SIGINT, Path("x"), None),
            130,
            "interrupted by SIGINT before anything was saved\n",
        ),
        (
            RESUMABLE,
            143,
            "interrupted by SIGTERM: the state is saved in runs/x/checkpoints/last.ckpt; continue with\n"
            "  python -m experiments.run resume=runs/x\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_its_line_and_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: list[str]) -> None:
        print("before", flush=False)
        raise error

    assert cli.command(main)([]) == status
    printed = capsys.readouterr()
    assert printed.err == said
    assert printed.out == "before\n"


def test_debug_prints_the_traceback_wherever_it_stands_and_main_never_sees_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    def main(arguments: list[str]) -> None:
        seen.extend(arguments)
        raise RunError("no")

    assert cli.command(main)(["a", "--debug", "b"]) == 1
    assert seen == ["a", "b"]
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_ends_a_command_without_a_word() -> None:
    command = [sys.executable, "-m", "experiments.run", "mnist_cnn", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_what_main_returns_is_the_status(returned: int | None, status: int) -> None:
    assert cli.command(lambda arguments: returned)([]) == status


def test_a_torchvision_that_does_not_fit_is_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("operator torchvision::nms does not exist")
    assert cli.report(error) == 1
    said = capsys.readouterr().err
    assert "pip install --force-reinstall torch torchvision" in said
    assert said.count("\n") == 1
    assert "--debug" not in said


def test_only_rank_zero_speaks_of_an_interruption(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.report(RESUMABLE) == 143
    assert capsys.readouterr().err == ""


def test_an_interruption_passes_through_what_catches_exceptions_and_ctrl_c() -> None:
    """Lightning swallows a KeyboardInterrupt, and so would many a model's own handler."""
    assert not isinstance(RESUMABLE, (Exception, KeyboardInterrupt))


def test_a_wrong_option_is_one_line_with_the_nearest_option() -> None:
    parser = cli.parser("sample", "Continue texts.")
    parser.add_argument("--prompt")
    with pytest.raises(UserError) as raised:
        parser.parse_args(["--promt=x"])
    assert str(raised.value) == (
        "unrecognized arguments: --promt=x (did you mean --prompt?); see python -m experiments.sample --help"
    )


@pytest.mark.parametrize(
    "name", ["out", "a b", "-x", "a #b", "&x", "it's", "$HOME", "~", "1", "a: b", "[x]", "é"]
)
def test_the_lines_to_paste_mean_the_directory_of_the_run(
    name: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real shell reads them."""

    def words(line: str) -> list[str]:
        shell = ["sh", "-c", f"set -- {line}\nprintf '%s\\n' \"$@\""]
        return subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()

    cli.report(Interrupted(signal.SIGINT, Path(name), Path(name, "checkpoints", "last.ckpt")))
    resume = words(capsys.readouterr().err.splitlines()[-1])
    assert resume[:3] == ["python", "-m", "experiments.run"]
    given = load_config({"model": {"name": "mlp"}, "data": {"name": "digits"}}, resume[3])
    assert Path(str(given.resume)) == Path(name)
    parser = argparse.ArgumentParser()  # TensorBoard's own kind
    parser.add_argument("--logdir")
    given = parser.parse_args(words(console.tensorboard_command(Path(name)))[1:])
    assert Path(os.path.expanduser(given.logdir)) == Path(name)


@pytest.mark.parametrize(("name", "value"), [("RANK", "1"), ("SLURM_NTASKS", ""), ("LOCAL_RANK", "x")])
def test_a_leftover_variable_of_a_launcher_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert cli.command(lambda arguments: 0)([]) == 2
    assert f"unset {name}" in capsys.readouterr().err


def test_a_tilde_at_the_start_of_a_path_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.path("~/a b") == tmp_path / "a b"
    assert [cli.path(text) for text in ("a~", "./~", "~nobody-has-this-name/x")] == [
        Path("a~"),
        Path("~"),
        Path("~nobody-has-this-name/x"),
    ]
    assert cli.file_or_name("yes_no") == "yes_no"
    options = compare.build_parser().parse_args(["~/runs", "--output=~/out"])
    assert (options.runs, options.output) == ([tmp_path / "runs"], tmp_path / "out")
