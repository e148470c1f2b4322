import json
from pathlib import Path

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import lm


def test_time_to_a_loss_ends_with_the_first_validation_that_is_as_good() -> None:
    curve = lm.Validations(seconds=[1.0, 2.0, 3.0], losses=[2.0, 1.5, 1.6])
    assert curve.seconds_to(1.9) == 2.0
    assert curve.seconds_to(2.0) == 1.0
    assert curve.seconds_to(1.0) is None


@pytest.mark.slow
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Both, on a made-up text."""
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40, encoding="utf-8")
    data = {**lm.QUICK["data"], "name": "text", "path": str(text), "root": str(tmp_path / "data")}
    monkeypatch.setitem(lm.QUICK, "data", data)
    path = tmp_path / "lm.json"
    assert command.main(["lm", "--quick", "--repeats", "2", "--json", str(path)]) == 0
    small, ours = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for row in (small, ours):
        assert len(row["validation loss"]["values"]) == 2
        assert all(0 < loss < 3.5 for loss in row["validation loss"]["values"])
        assert all(seconds > 0 for seconds in row["seconds"]["values"])
    assert "small GPT" in capsys.readouterr().out
