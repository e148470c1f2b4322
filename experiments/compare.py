"""Compare finished runs: a table over seeds, a CSV file and a figure."""

import argparse
import sys
from pathlib import Path

from experiments import cli
from experiments.config.comparison import ComparisonConfig
from experiments.console import announce, console, print_table
from experiments.studies.compare_runs import compare_runs

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
    add("--columns", metavar="A,B", help=f"names or patterns; default: those of the study, or {DEFAULT}")
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Compare the runs named on the command line."""
    options = build_parser().parse_args(arguments)
    output = options.output or (options.runs[0] if len(options.runs) == 1 else Path("runs") / "comparison")
    columns = options.columns.split(",") if options.columns else None
    announce(f"comparing {', '.join(map(str, options.runs))}")
    comparison = compare_runs(options.runs, output, columns=columns)
    terminal = console()
    print_table(comparison.table(), terminal)
    for line in comparison.failures():
        terminal.print(f"failed: {line}", style="red", markup=False, soft_wrap=True)
    terminal.print(
        f"written to {output}: comparison.csv, comparison.md, comparison.png", markup=False, soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main(None))
