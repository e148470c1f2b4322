import argparse

import pytest
import torch

from experiments.benchmark import attention
from experiments.benchmark.harness import Sample
from experiments.errors import UserError


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    attention.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_every_way_computes_the_same(kv_heads: int) -> None:
    """A comparison of times means nothing between results that differ."""
    inputs = attention.make_inputs((2, 4, kv_heads, 6, 8), "float32", torch.device("cpu"))
    expected = attention.attend(attention.BASELINE, inputs, backward=True)
    assert len(expected) == 4
    for way in attention.WAYS:
        torch.testing.assert_close(attention.attend(way, inputs, backward=True), expected, msg=way)


@pytest.mark.slow
def test_measures_every_way_at_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter(float(n) for n in range(1, 100))
    monkeypatch.setattr(attention, "peak_memory_mib", lambda *args, **rest: next(peaks))
    report = attention.run(options("--lengths", "4", "8", "--heads", "2", "--repeats", "3"))
    assert [(row["T"], row["way"]) for row in report.rows] == [
        (t, way) for t in (4, 8) for way in attention.WAYS
    ]
    for row in report.rows:
        assert isinstance(row["both ms"], Sample)
        assert len(row["forward ms"].values) == 3
        assert row["way"] != attention.BASELINE or row["×"] == row["both ×"] == 1.0
    assert report.rows[1]["forward MiB"] == 3.0
    assert report.rows[1]["both MiB"] == 4.0
    assert "tiled 2.33" in report.notes[-1]  # 14 after 6


@pytest.mark.slow
def test_memory_of_the_tiled_way_is_far_below_the_scores() -> None:
    """Real processes: 4 heads of 1024 × 1024 fp32 scores are 16 MiB, and by hand keeps several."""
    shape = (1, 4, 4, 1024, 8)
    cpu = torch.device("cpu")
    by_hand = attention._peak_mib(cpu, "by_hand", shape, "float32", True)
    tiled = attention._peak_mib(cpu, "tiled", shape, "float32", True)
    if by_hand is None or tiled is None:
        pytest.skip("this system reports no peak")
    assert by_hand > 40
    assert tiled < by_hand / 3


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="each must be ≥ 1"):
        attention.run(options("--lengths", "0"))
    with pytest.raises(UserError, match="--heads 4 is not a multiple of --kv-heads 3"):
        attention.run(options("--heads", "4", "--kv-heads", "3"))
