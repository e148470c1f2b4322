"""The stage left by the tiny chain, and the page of samples."""

import csv
import math
from pathlib import Path

import pytest

from datamodules.prompts.prompt_sets import Prompt
from experiments.steering.bootstrap import Estimate
from experiments.steering.evaluator import Answers
from experiments.steering.generate_task import figures, samples, table
from experiments.steering.methods import METHODS
from experiments.training.run_directory import read_metrics


@pytest.mark.slow
def test_answers_are_written_and_counted(chain_run: Path) -> None:
    found = read_metrics(chain_run / "generate")
    assert found["test/none/perplexity_ratio"] == 1
    assert found["test/none/neutral_unchanged"] == 1
    assert found["test/none/neutral_divergence"] == pytest.approx(0, abs=1e-6)
    assert found["test/mean/neutral_divergence"] > 0
    assert 0 <= found["test/l2s/keyword_rate"] <= 1
    shown = (chain_run / "generate" / "samples.md").read_text()
    assert shown.startswith("| prompt | none | mean | l2s | lora | p2s |\n|---|---|---|---|---|---|\n| 0. ")
    assert len(shown.splitlines()) == 2 + 2
    figures = (chain_run / "generate" / "table.md").read_text()
    assert all(f"| {method}: {what} |" in figures for method, what in METHODS.items())
    assert f"{found['test/l2s/keyword_rate']:.3f} [" in figures
    with (chain_run / "generate" / "generations.csv").open(encoding="utf-8", newline="") as file:
        head = next(csv.reader(file))
    assert {"none/0", "l2s/0", "l2s/1", "random/0"} < set(head)  # with the networks that were compared
    assert not {"none/1", "random/1"} & set(head)


def test_one_factor_may_be_asked_of_all_methods(chain_run: Path) -> None:
    chosen, strong = (read_metrics(chain_run / name) for name in ("generate", "strong"))
    assert strong["test/none/perplexity_ratio"] == 1
    assert not any("neutral" in name for name in strong)
    assert strong["test/p2s/perplexity_ratio"] != chosen["test/p2s/perplexity_ratio"]


def test_samples_stand_side_by_side() -> None:
    texts = {"none": ["a", "b\nc"], "ridge": ["d", "e"], "p2s": ["f", "g | h"]}
    assert samples(["Why?"], [1], texts) == (
        "| prompt | none | p2s |\n|---|---|---|\n| 1. Why? | b c | g \\| h |\n"
    )


def test_the_table_has_a_row_for_each_method() -> None:
    found = {f"{method}/keyword_rate": Estimate(0.5, 0.25, 0.75) for method in METHODS}
    rows = table(found).splitlines()
    assert len(rows) == 2 + len(METHODS)
    del found["lora/keyword_rate"]  # a chain without low-rank updates
    assert len(table(found).splitlines()) == 1 + len(METHODS)
    (row,) = (row for row in rows if row.startswith("| l2s: "))
    assert row == f"| l2s: {METHODS['l2s']} | 0.500 [0.250, 0.750] | – | – | – | – |"


@pytest.mark.parametrize(("count", "extra"), [(4, 4), (5, 0)])
def test_a_few_instantiations_have_columns(count: int, extra: int) -> None:
    found = {f"none/keyword_rate/one_{n}": Estimate(n, n, n) for n in range(count)}
    head, _, row, *_ = table(found).splitlines()
    assert head.count("keyword rate, one_") == extra
    assert row.count("[3.000, 3.000]") == bool(extra)


def test_figures_are_means_over_prompts_and_seeds() -> None:
    prompts = [
        Prompt(
            text=f"{n}", instantiation="ab"[n], family="f", topic=f"{n}", split="test", seen=True, template=0
        )
        for n in range(2)
    ]
    once = {f"{method}/0": Answers([[1, 2], [3]], [-1.0, -2.0]) for method in METHODS}
    written = once | {
        "l2s/0": Answers([[1, 1, 1, 1], [3]], [-2.0, -2.0]),
        "l2s/1": Answers([[1, 1, 1, 1], [3]], [-4.0, -2.0]),
        "mean/0": Answers([[1, 2], []], [-1.5, math.nan]),
    }
    named = {key: [1.0, 0.0] for key in written} | {"l2s/1": [1.0, 1.0]}
    found = figures(prompts, written, named)
    assert found["l2s/keyword_rate"].value == pytest.approx(0.75)
    assert found["mean/keyword_rate"].value == pytest.approx(0.5)
    assert found["mean/keyword_rate/a"].value == 1
    assert found["mean/empty"].value == 0.5
    assert found["l2s/keyword_rate/b"].value == 0.5
    assert found["l2s/repetition"].value == pytest.approx(0.25)
    assert found["none/perplexity_ratio"] == Estimate(1.0, 1.0, 1.0)
    ratio = found["l2s/perplexity_ratio"]
    assert ratio.value == pytest.approx(math.exp((2 + 0) / 2))
    assert (ratio.low, ratio.high) == pytest.approx((1.0, math.exp(2)))
    assert found["mean/perplexity_ratio"].value == pytest.approx(math.exp(0.5))  # of the prompt it answered
