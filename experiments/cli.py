"""Turn each error of a command into one line and an exit status.

Exit status: 0 done; 1 the run failed; 2 the command line or the config is wrong; 130 Ctrl-C; 143 SIGTERM;
141 the reader of the output closed it.
"""

import argparse
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from experiments import early_ctrl_c, terminal_streams
from experiments.config.messages import escaped, nearest, plain_path
from experiments.config.own_code import options, take_option
from experiments.config.sources import override
from experiments.errors import Interrupted, RunError, UserError
from experiments.training.run_directory import is_worker
from experiments.training.threads import core_sharing


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise the message as a `UserError`; suggest a known option for an unknown one."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            option = unknown.split()[0].partition("=")[0]
            message += nearest(option, self._option_string_actions)
        raise UserError(f"{message}; see {self.prog} --help")


def command(main: Callable[[list[str]], int | None]) -> Callable[[Sequence[str] | None], int]:
    """Wrap the main function of a command: each error becomes one line and an exit status.

    With `--debug` anywhere on the command line, the traceback is printed too. Each `--use FILE.py` is loaded
    first: it registers own classes.
    """

    def guarded(arguments: Sequence[str] | None = None) -> int:
        given = list(sys.argv[1:] if arguments is None else arguments)
        debug = "--debug" in given
        early_ctrl_c.hand_over()
        terminal_streams.make_safe()
        core_sharing.start()
        try:
            check_launcher()
            status = main(take_option(a for a in given if a != "--debug")) or 0
            sys.stdout.flush()
            return status
        except (Exception, KeyboardInterrupt, Interrupted) as error:
            if debug:
                traceback.print_exc()
            return report(error)

    return guarded


def check_launcher() -> None:
    """Check the variables by which a launcher numbers its processes.

    Raises:
        UserError: A variable is left over from another shell or job; names it.
    """
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise UserError(f"the environment variable {name} is {value!r}, not a number: unset {name}")
    if os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"the environment variable RANK is {os.environ['RANK']}, but no launcher such as torchrun set "
            "WORLD_SIZE: unset RANK"
        )


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser without arguments that prints the description of a command as it is written."""
    return _Parser(
        prog=f"python -m experiments.{name}",
        description=description,
        epilog="--use FILE.py loads your own classes from a file. --debug prints the traceback of an error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def path(text: str) -> Path:
    """Read a path of the command line; a `~` at its start is the home, also in `--option=~/x`."""
    return Path(file_or_name(text))


def file_or_name(text: str) -> str:
    """Read the path of a file, as `path` does, or a name."""
    return os.path.expanduser(text)


def report(error: BaseException) -> int:
    """Print an error for the user and return the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader, such as head, has closed the pipe
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # either of them may be the closed one
            os.dup2(nowhere, stream.fileno())
        return 141  # as a shell reports SIGPIPE
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return 128 + signal.SIGINT
    if isinstance(error, Interrupted):
        if is_worker():
            return 128 + error.signum  # rank zero prints it for all
        name = signal.Signals(error.signum).name
        if error.path is None:
            _say(f"interrupted by {name} before anything was saved")
        else:
            resume = shlex.join([override("resume", plain_path(error.run_dir)), *options()])
            _say(
                f"interrupted by {name}: the state is saved in {error.path}; "
                f"continue with\n  python -m experiments.run {resume}"
            )
        return 128 + error.signum
    is_known = isinstance(error, (UserError, RunError)) or _is_torchvision_mismatch(error)
    _say(f"error: {one_line(error)}{'' if is_known else ' (--debug prints the traceback)'}")
    return 2 if isinstance(error, UserError) else 1


def one_line(error: BaseException) -> str:
    """Return the message of one of our errors, or the type and first line of another error."""
    if isinstance(error, (UserError, RunError)):
        return "\n".join(map(escaped, str(error).splitlines()))
    if _is_torchvision_mismatch(error):
        return (
            "torch and torchvision do not match: torchvision's operators are missing. Reinstall "
            "both from one source: pip install --force-reinstall torch torchvision"
        )
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {escaped(lines[0]) if lines else 'no message'}"


def _is_torchvision_mismatch(error: BaseException) -> bool:
    return "torchvision::nms" in str(error)


def _say(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
