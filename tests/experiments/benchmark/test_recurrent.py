import argparse

import pytest
import torch

from experiments.benchmark import recurrent
from experiments.benchmark.harness import Sample
from experiments.errors import UserError


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    recurrent.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("kind", recurrent.KINDS)
def test_every_way_computes_the_same(kind) -> None:
    """A comparison of times means nothing between networks that differ."""
    inputs = torch.randn(2, 4, 3)
    ways = recurrent.ways(kind, 3, 2, torch.device("cpu"))
    expected = ways[recurrent.BASELINE](inputs)[0]
    for name, way in ways.items():
        torch.testing.assert_close(way(inputs)[0], expected, msg=name)


def test_measures_every_way_of_every_kind() -> None:
    report = recurrent.run(options("--quick", "--repeats", "3"))
    assert len(report.rows) == 3 * 5
    assert [row["kind"] for row in report.rows[::5]] == list(recurrent.KINDS)
    for row in report.rows:
        assert isinstance(row["ms"], Sample)
        assert len(row["ms"].values) == 3
        assert row["ratio"] > 0
        assert row["way"] != recurrent.BASELINE or row["ratio"] == 1.0


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="each must be ≥ 1"):
        recurrent.run(options("--steps", "0"))
