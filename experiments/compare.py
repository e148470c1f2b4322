"""Puts finished runs side by side: one table over seeds, a CSV, and a figure."""

import argparse
import csv
import fnmatch
import math
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from experiments import cli
from experiments.console import console
from experiments.errors import UserError
from experiments.studies.finished_runs import Run, find_runs, group_names, read_run
from experiments.training.confusion import pooled

DEFAULT_COLUMNS = ("test/*", "fit_seconds", "parameters")
HIGHER_IS_BETTER = {
    "accuracy",
    "auc",
    "auroc",
    "bleu",
    "cosine",
    "f1",
    "map",
    "mrr",
    "precision",
    "r2",
    "recall",
    "reward",
    "success",
}
LOWER_IS_BETTER = {
    "bits",
    "brier",
    "ece",
    "error",
    "loss",
    "mae",
    "memory",
    "mse",
    "nll",
    "perplexity",
    "rmse",
    "seconds",
}
MAX_CLASSES = 10  # of a confusion matrix that is written out
YES_OR_NO = {"success"}
"""What a run has or hasn't: of such a metric a count says more than a mean ± spread of zeros and ones."""
CAPTION = "Mean ± sample standard deviation over runs"
COUNT_CAPTION = "of success the count, with its rate's 95 % interval (Wilson)"


@dataclass(kw_only=True)
class Group:
    """The runs of one variant, over its seeds."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def values(self, metric: str) -> list[float]:
        """The finite values of the runs that have this metric."""
        found = (run.metrics.get(metric, math.nan) for run in self.runs)
        return [value for value in found if math.isfinite(value)]

    def complete(self, metric: str) -> bool:
        """Whether every run came to a finite value: a mean of the survivors can't be the best."""
        return len(self.values(metric)) == len(self.runs)

    def mean(self, metric: str) -> float:
        """Mean over the finite values; NaN where there is none."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def std(self, metric: str) -> float:
        """Sample standard deviation (n − 1); NaN where there are fewer than two values."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def text(self, metric: str) -> str:
        """Mean ± spread, and from how many of the runs where some have no finite value."""
        values = self.values(metric)
        if not values:
            return "failed" if all(run.failure for run in self.runs) else "–"
        if is_yes_or_no(metric) and len(values) > 1 and set(values) <= {0.0, 1.0}:
            text = _count_and_interval(round(sum(values)), len(values))
        else:
            text = _mean_and_spread(self.mean(metric), self.std(metric))
        return text if self.complete(metric) else f"{text} ({len(values)} of {len(self.runs)} runs)"


@dataclass(kw_only=True)
class Comparison:
    """Groups of runs, in order, and the metrics to show of them."""

    groups: list[Group]
    columns: list[str]

    def best(self, metric: str) -> float | None:
        """The best mean among the complete groups, or None without a rival or a better direction."""
        means = [group.mean(metric) for group in self.groups if group.complete(metric)]
        direction = direction_of(metric)
        if not direction or not means or len(self.groups) < 2:
            return None
        return max(means) if direction > 0 else min(means)

    def is_best(self, group: Group, metric: str) -> bool:
        """Whether this group has the best mean; several may share it."""
        return group.complete(metric) and group.mean(metric) == self.best(metric)

    def failures(self) -> list[str]:
        """One line for each run that failed."""
        return [f"{run.path}: {run.failure}" for group in self.groups for run in group.runs if run.failure]

    def caption(self) -> str:
        """What the numbers of a cell are."""
        counted = any(is_yes_or_no(metric) for metric in self.columns)
        return f"{CAPTION}; {COUNT_CAPTION}" if counted else CAPTION

    def table(self) -> Table:
        """For the terminal: a row a group, the best of each column in bold."""
        table = Table("variant", title=self.caption(), title_justify="left")
        for heading in ("runs", *self.columns):
            table.add_column(heading, justify="right")
        for group in self.groups:
            cells = [
                Text(group.text(metric), style="bold" if self.is_best(group, metric) else "")
                for metric in self.columns
            ]
            table.add_row(Text(group.name), str(len(group.runs)), *cells)
        return table

    def markdown(self) -> str:
        """The same table for a document."""
        lines = [["variant", "runs", *self.columns], ["---", "---:", *("---:" for _ in self.columns)]]
        for group in self.groups:
            cells = [group.text(metric) for metric in self.columns]
            bold = [self.is_best(group, metric) for metric in self.columns]
            shown = [f"**{cell}**" if best else cell for cell, best in zip(cells, bold, strict=True)]
            lines.append([group.name.replace("|", "\\|"), str(len(group.runs)), *shown])
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        failures = "".join(f"- failed: {line}\n" for line in self.failures())
        return f"{table}\n{self.caption()}.\n" + (f"\n{failures}" if failures else "") + self._confusions()

    def _confusions(self) -> str:
        """What each group of classifiers takes for what, over the test sets of all its runs."""
        parts = []
        for group in self.groups:
            table = pooled([run.path for run in group.runs])
            if table is not None and len(table.class_names) <= MAX_CLASSES:
                runs = f"{len(group.runs)} run{'s' * (len(group.runs) > 1)}"
                parts.append(f"\n{group.name}, test, {runs} added up:\n\n{table.markdown()}")
        return "".join(parts)

    def write(self, output: Path) -> None:
        """Write `comparison.csv` (every metric), `comparison.md` and `comparison.png` to a folder."""
        from experiments.studies.comparison_figure import draw  # matplotlib takes a second to import

        output.mkdir(parents=True, exist_ok=True)
        with (output / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["variant", "metric", "mean", "std", "runs", "failed", "best", "values"])
            for group in self.groups:
                failed = sum(run.failure is not None for run in group.runs)
                for metric in sorted({name for run in group.runs for name in run.metrics}) or [""]:
                    mean, std = (_blank_if_nan(value) for value in (group.mean(metric), group.std(metric)))
                    values = " ".join(
                        repr(run.metrics[metric]) for run in group.runs if metric in run.metrics
                    )
                    best = int(self.is_best(group, metric))
                    rows.writerow([group.name, metric, mean, std, len(group.runs), failed, best, values])
        (output / "comparison.md").write_text(self.markdown(), encoding="utf-8")
        draw(self, output / "comparison.png")


def compare(
    runs: Sequence[Path], output: Path | None = None, columns: Sequence[str] = DEFAULT_COLUMNS
) -> Comparison:
    """Read run and study directories into one comparison.

    Args:
        runs: directories: runs, studies, or folders of them at any depth.
        output: folder for `comparison.csv`, `comparison.md` and `comparison.png`; None writes nothing.
        columns: names or patterns (`val/*`) of the metrics to show.

    Raises:
        UserError: a directory is missing, none holds a run, no run has metrics, or no metric fits `columns`.
    """
    for path in runs:
        if not path.is_dir():
            raise UserError(f"{path}: no such directory")
    found = list({run.resolve(): run for path in runs for run in find_runs(path)}.values())
    where = ", ".join(map(str, runs))
    if not found:
        raise UserError(f"no run directory (one with metrics.json) in {where}")
    read = [read_run(path) for path in found]
    names = list(dict.fromkeys(name for run in read for name in run.metrics))
    if not names:
        raise UserError(f"none of the {len(found)} runs in {where} has any metrics in its metrics.json")
    shown = [name for pattern in columns for name in sorted(fnmatch.filter(names, pattern))]
    if not shown:
        raise UserError(f"no metric fits {', '.join(columns)}; there are {', '.join(sorted(names))}")
    groups: dict[str, Group] = {}
    for run, name in zip(read, group_names(found), strict=True):
        groups.setdefault(name, Group(name=name)).runs.append(run)
    comparison = Comparison(groups=list(groups.values()), columns=list(dict.fromkeys(shown)))
    if output is not None:
        comparison.write(output)
    return comparison


def direction_of(metric: str) -> int:
    """1 where more is better, −1 where less is, 0 where neither is: judged by the words of the name."""
    words = _words(metric)
    if {"per", "second"} <= words or words & HIGHER_IS_BETTER:
        return 1
    return -1 if words & LOWER_IS_BETTER else 0


def is_yes_or_no(metric: str) -> bool:
    """Whether each run's value is 1 or 0, judged as above."""
    return bool(_words(metric) & YES_OR_NO)


def _words(metric: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", metric.lower()))


def _count_and_interval(count: int, total: int) -> str:
    """`14 of 20 (48–85 %)`, the interval by Wilson 1927: it stays within 0 and 1 where all or none did."""
    z, rate = 1.96, count / total
    middle = rate + z**2 / (2 * total)
    half = z * math.sqrt(rate * (1 - rate) / total + (z / (2 * total)) ** 2)
    low, high = ((middle + sign * half) / (1 + z**2 / total) for sign in (-1, 1))
    return f"{count} of {total} ({100 * max(0.0, low):.0f}–{100 * min(1.0, high):.0f} %)"


def _mean_and_spread(mean: float, std: float) -> str:
    if mean == int(mean) and not std > 0:
        return str(int(mean))
    if math.isnan(std):
        return f"{mean:.5g}"
    if std == 0:
        return f"{mean:.5g} ± 0"
    decimals = max(0, 1 - math.floor(math.log10(std)))  # two digits of the spread
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"


def _blank_if_nan(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


@cli.command
def main(arguments: list[str]) -> None:
    """Compare the runs that the command line names; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run, a study, or a folder of them"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: RUN if it is one, else runs/comparison"
    )
    parser.add_argument(
        "--columns", metavar="A,B", help=f"names or patterns; default: {','.join(DEFAULT_COLUMNS)}"
    )
    options = parser.parse_args(arguments)
    output = options.output or (options.runs[0] if len(options.runs) == 1 else Path("runs") / "comparison")
    columns = options.columns.split(",") if options.columns else DEFAULT_COLUMNS
    comparison = compare(options.runs, output, columns)
    terminal = console()
    terminal.print(comparison.table())
    for line in comparison.failures():
        terminal.print(f"failed: {line}", style="red", markup=False, soft_wrap=True)
    terminal.print(
        f"written to {output}: comparison.csv, comparison.md, comparison.png", markup=False, soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main(None))
