"""The stage left by the tiny chain, and the page of samples."""

from pathlib import Path

import pytest

from experiments.run_directory import read_metrics
from experiments.steering.generate_task import samples


def test_answers_are_written_and_counted(chain_run: Path) -> None:
    found = read_metrics(chain_run / "generate")
    assert found["test/none/perplexity_ratio"] == 1
    assert found["test/none/neutral_unchanged"] == 1
    assert found["test/none/neutral_divergence"] == pytest.approx(0, abs=1e-6)
    assert found["test/mean/neutral_divergence"] > 0
    assert 0 <= found["test/l2s/keyword_rate"] <= 1
    shown = (chain_run / "generate" / "samples.md").read_text()
    assert shown.count("- l2s: ") == shown.count("- none: ") == 2


def test_samples_stand_side_by_side() -> None:
    texts = {"none": ["a", "b\nc"], "ridge": ["d", "e"], "p2s": ["f", "g"]}
    assert samples(["Why?"], [1], texts) == "**1. Why?**\n\n- none: b c\n- p2s: g\n"
