"""The console command: `experiments COMMAND …`, the same as `python -m experiments.COMMAND …`."""

import sys
from collections.abc import Sequence
from importlib import metadata

from experiments import cli
from experiments.commands import COMMANDS, overview
from experiments.config.messages import nearest
from experiments.errors import UserError

PACKAGE = "lightning-experiment-suite"
"""Name of the installed package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; without one, list the commands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        status: int = COMMANDS[given[0]].load().main(given[1:])
        return status
    return _list_commands(given)


@cli.command
def _list_commands(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"experiments {_version()}")
        return
    if arguments and arguments[0] not in ("-h", "--help"):
        name = arguments[0]
        raise UserError(
            f"unknown command {name!r}{nearest(name, COMMANDS)}; choose from {', '.join(COMMANDS)}"
        )
    print("experiments COMMAND …\n")
    print(overview())
    print("\nThe options of a command: experiments COMMAND --help\nThe version: experiments --version")


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "(not installed; run from its source)"


if __name__ == "__main__":
    sys.exit(main())
