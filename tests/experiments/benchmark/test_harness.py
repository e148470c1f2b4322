import io
import json
import math
import statistics
import time

import pytest
import torch
from rich.console import Console

from experiments.benchmark.harness import Report, Sample, interleaved, timed


def test_sample_statistics_agree_with_torch() -> None:
    values = (3.0, 1.0, 4.0, 1.5)
    sample, reference = Sample(values), torch.tensor(values, dtype=torch.float64)
    assert sample.mean == pytest.approx(reference.mean().item())
    assert sample.std == pytest.approx(reference.std(correction=1).item())
    assert sample.median == statistics.median(values)


def test_ratio_is_taken_turn_by_turn() -> None:
    """A machine that is 10 times slower in one turn slows both sides and so leaves the ratio as it is."""
    ours, theirs = Sample((1.0, 10.0, 1.0)), Sample((2.0, 20.0, 2.0))
    assert theirs.ratio_to(ours).values == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="2 measurements against the baseline's 3"):
        Sample((1.0, 2.0)).ratio_to(ours)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((12.0, 14.0), "13.0 ± 1.4"),
        ((0.0012,), "0.0012"),
        ((0.0, 0.0), "0.00 ± 0.00"),
        ((100.0, 300.0), "200 ± 141"),
    ],
)
def test_sample_text_has_three_digits_and_no_spread_of_one_value(
    values: tuple[float, ...], text: str
) -> None:
    assert str(Sample(values)) == text


def test_alternatives_are_measured_in_turns_and_warmup_is_not_kept() -> None:
    order: list[str] = []

    def record(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = interleaved({"a": lambda: record("a"), "b": lambda: record("b")}, repeats=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert taken == {"a": Sample((3.0, 5.0)), "b": Sample((4.0, 6.0))}


def test_timed_counts_every_call_and_divides_by_them() -> None:
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        time.sleep(0.002)

    assert timed(call, calls=3)() >= 0.002
    assert len(calls) == 3


def test_report_prints_every_column_and_writes_each_measurement(tmp_path) -> None:
    report = Report(title="Two ways")
    report.rows = [{"way": "slow", "ms": Sample((4.0, 6.0))}, {"way": "fast", "ms": math.nan, "MiB": None}]
    report.notes = ["[not markup]"]
    out = io.StringIO()
    report.show(Console(file=out, width=100))
    for expected in ("Two ways", "slow", "5.00 ± 1.41", "fast", "n/a", "MiB", "[not markup]"):
        assert expected in out.getvalue()

    report.write(tmp_path / "deep" / "report.json", ["python", "-m", "x"])
    text = (tmp_path / "deep" / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    written = json.loads(text)
    assert written["rows"][0]["ms"] == {
        "mean": 5.0,
        "std": pytest.approx(2**0.5),
        "median": 5.0,
        "values": [4.0, 6.0],
    }
    assert written["rows"][1] == {"way": "fast", "ms": None, "MiB": None}
    assert written["command"] == ["python", "-m", "x"]
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert {"processor", "cpu_cores", "packages"} <= written["machine"].keys()
    assert "git_revision" in written
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.json"]
