"""Compare groups of runs: mean and spread over seeds, the best group, tables for terminal and document."""

import fnmatch
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from experiments.studies.finished_runs import Run
from experiments.training.confusion import pooled

HIGHER_IS_BETTER = {
    *("accuracy", "auc", "auroc", "bleu", "cosine", "f1", "map", "match", "mrr", "pass"),
    *("precision", "r2", "recall"),
    *("reward", "success"),
}
LOWER_IS_BETTER = {
    *("bits", "brier", "bytes", "ece", "error", "loss", "mae", "memory", "mse", "nll", "perplexity", "rmse"),
    "seconds",
}
"""Words in the names of metrics."""
YES_OR_NO = {"success"}
"""Metrics that are 1 or 0 for each run. Their table cells show a count instead of mean ± spread."""
MAX_CLASSES = 10
"""Confusion matrices with more classes are not written out."""
CAPTION = "Mean ± sample standard deviation over runs"
COUNT_CAPTION = "for success, the count and the 95 % interval of the rate (Wilson)"


@dataclass(kw_only=True)
class Group:
    """The runs of one variant, over its seeds."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def values(self, metric: str) -> list[float]:
        """Return the finite values of a metric over the runs that have it."""
        found = (run.metrics.get(metric, math.nan) for run in self.runs)
        return [value for value in found if math.isfinite(value)]

    def complete(self, metric: str) -> bool:
        """Return whether every run has a finite value. A mean over fewer runs cannot be the best."""
        return len(self.values(metric)) == len(self.runs)

    def mean(self, metric: str) -> float:
        """Return the mean of the finite values; NaN if there are none."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def std(self, metric: str) -> float:
        """Return the sample standard deviation (n − 1); NaN for fewer than two values."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def text(self, metric: str) -> str:
        """Return mean ± spread, with the number of runs if some have no finite value."""
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
    """Groups of runs, in order, and the metrics to show."""

    groups: list[Group]
    columns: list[str]
    winner: str | None = None
    """Name of the group that is best by the monitored validation metric; `None` if there is no choice."""
    monitor: str = ""  # that metric

    def label(self, group: Group) -> str:
        """Return the name of a group, with an arrow at the winner."""
        return f"{group.name} ←" if group.name == self.winner else group.name

    def best(self, metric: str) -> float | None:
        """Return the best mean of the complete groups; None for one group or a metric without a direction."""
        means = [group.mean(metric) for group in self.groups if group.complete(metric)]
        direction = direction_of(metric)
        if not direction or not means or len(self.groups) < 2:
            return None
        return max(means) if direction > 0 else min(means)

    def is_best(self, group: Group, metric: str) -> bool:
        """Return whether this group has the best mean. Several groups may share it."""
        return group.complete(metric) and group.mean(metric) == self.best(metric)

    def means(self) -> dict[str, float]:
        """Return the mean of every metric as `<group>/<metric>`, and its spread as `<group>/<metric>/std`."""
        found: dict[str, float] = {}
        for group in self.groups:
            for metric in sorted({name for run in group.runs for name in run.metrics}):
                values = {"": group.mean(metric), "/std": group.std(metric)}
                found |= {f"{group.name}/{metric}{k}": v for k, v in values.items() if not math.isnan(v)}
        return found

    def failures(self) -> list[str]:
        """Return one line for each run that failed."""
        return [f"{run.path}: {run.failure}" for group in self.groups for run in group.runs if run.failure]

    def caption(self) -> str:
        """Say what the numbers in a cell are."""
        counted = any(is_yes_or_no(metric) for metric in self.columns)
        parts = [CAPTION, *([COUNT_CAPTION] if counted else [])]
        return "; ".join([*parts, f"← best by {self.monitor}"] if self.winner else parts)

    def table(self) -> Table:
        """Return a table for the terminal: one row per group, the best of each column in bold."""
        table = Table("variant", title=self.caption(), title_justify="left")
        for heading in ("runs", *self.columns):
            table.add_column(heading, justify="right")
        for group in self.groups:
            cells = [
                Text(group.text(metric), style="bold" if self.is_best(group, metric) else "")
                for metric in self.columns
            ]
            table.add_row(Text(self.label(group)), str(len(group.runs)), *cells)
        return table

    def markdown(self) -> str:
        """Return the same table for a document."""
        lines = [["variant", "runs", *self.columns], ["---", "---:", *("---:" for _ in self.columns)]]
        for group in self.groups:
            cells = [group.text(metric) for metric in self.columns]
            bold = [self.is_best(group, metric) for metric in self.columns]
            shown = [f"**{cell}**" if best else cell for cell, best in zip(cells, bold, strict=True)]
            lines.append([self.label(group).replace("|", "\\|"), str(len(group.runs)), *shown])
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        failures = "".join(f"- failed: {line}\n" for line in self.failures())
        return f"{table}\n{self.caption()}.\n" + (f"\n{failures}" if failures else "") + self._confusions()

    def _confusions(self) -> str:
        """Return the confusion matrix of each group of classifiers, summed over the test sets of its runs."""
        parts = []
        for group in self.groups:
            table = pooled([run.path for run in group.runs])
            if table is not None and len(table.class_names) <= MAX_CLASSES:
                runs = f"{len(group.runs)} run{'s' * (len(group.runs) > 1)}"
                parts.append(f"\n{group.name}, test, {runs} summed:\n\n{table.markdown()}")
        return "".join(parts)


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match, in the order of the patterns and within a pattern sorted."""
    listed = sorted(names)
    return list(dict.fromkeys(name for pattern in patterns for name in fnmatch.filter(listed, pattern)))


def direction_of(metric: str) -> int:
    """Return 1 if higher is better, −1 if lower is better, else 0, judged by the words in the name."""
    words = _words(metric)
    if {"per", "second"} <= words or words & HIGHER_IS_BETTER:
        return 1
    return -1 if words & LOWER_IS_BETTER else 0


def is_yes_or_no(metric: str) -> bool:
    """Return whether the value of each run is 1 or 0, judged by the words in the name."""
    return bool(_words(metric) & YES_OR_NO)


def _words(metric: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", metric.lower()))


def _count_and_interval(count: int, total: int) -> str:
    """Format as `14 of 20 (48–85 %)`. The interval is Wilson's (1927), which stays within 0 and 1."""
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
    decimals = max(0, 1 - math.floor(math.log10(std)))  # Two digits of the spread.
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"
