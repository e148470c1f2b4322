"""Compare finished runs: a table over seeds, a CSV file and a figure."""

import argparse
import shlex
import sys
from pathlib import Path

from experiments import cli
from experiments.config import own_code
from experiments.config.check import load_config
from experiments.config.comparison import ComparisonConfig
from experiments.console import announce, console, print_table, say
from experiments.errors import UserError
from experiments.studies.compare_runs import compare_runs
from experiments.studies.comparison import Comparison

DEFAULT = ",".join(ComparisonConfig().columns)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("compare", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=cli.path, metavar="RUN", help="a run, a study, or a folder of them")
    add(
        "--output",
        type=cli.path,
        metavar="DIR",
        help="default: RUN if there is only one, else runs/comparison",
    )
    add(
        "--best",
        action="store_true",
        help="print the command that repeats the fit with the best validation metric",
    )
    add("--retrain", metavar="SEEDS", help="run that command with these seeds, such as 0,1,2")
    add("--columns", metavar="A,B", help=f"names or patterns; default: those of the study, or {DEFAULT}")
    add("--curves", metavar="A,B", help="names or patterns of the curves in the figure; default: val/*")
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Compare the runs named on the command line."""
    options = build_parser().parse_args(arguments)
    output = options.output or (options.runs[0] if len(options.runs) == 1 else Path("runs") / "comparison")
    columns, curves = (names.split(",") if names else None for names in (options.columns, options.curves))
    announce(f"comparing {', '.join(map(str, options.runs))}")
    comparison = compare_runs(options.runs, output, columns=columns, curves=curves)
    terminal = console()
    print_table(comparison.table(), terminal)
    for line in comparison.failures():
        terminal.print(f"failed: {line}", style="red", markup=False, soft_wrap=True)
    terminal.print(
        f"written to {output}: comparison.csv, comparison.md, comparison.png", markup=False, soft_wrap=True
    )
    if options.best or options.retrain is not None:
        _best(comparison, options.retrain)


def _best(comparison: Comparison, seeds: str | None) -> None:
    """Print the winner's command; with seeds, run it.

    Raises:
        UserError: There is no winner, or the seeds are not numbers.
    """
    if comparison.winner is None:
        raise UserError("there is no best fit: at least two finished fits must monitor the same metric")
    winner = next(group for group in comparison.groups if group.name == comparison.winner)
    config = winner.runs[0].path / "config.yaml"
    words = [str(config), f"name={load_config(config).name.replace('/', '_')}_best"]
    if seeds is not None:
        if not all(seed.strip().isdecimal() for seed in seeds.split(",")):
            raise UserError(f"--retrain {seeds}: write whole numbers, such as 0,1,2")
        words.append(f"seeds=[{seeds}]")
    say(f"best by {comparison.monitor}: {winner.name}")
    say(f"python -m experiments.run {shlex.join([*words, *own_code.options()])}")
    if seeds is not None:
        from experiments.launch import load_sources, run_config

        run_config(load_sources(*words))


if __name__ == "__main__":
    sys.exit(main(None))
