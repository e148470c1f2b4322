from pathlib import Path

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import compilation
from experiments.config.check import load_config


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["compilation", "--quick", "--json", str(tmp_path / "compilation.json")]) == 0
    assert "mnist_mlp" in capsys.readouterr().out


@pytest.mark.parametrize("name", compilation.CONFIGS)
def test_each_config_is_one_fit(name: str) -> None:
    assert load_config(name, compilation.PLAIN).form == "fit"


def test_a_fit_is_reckoned_from_its_steps_and_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(step: float, start: float) -> compilation.StepClock:
        clock = compilation.StepClock(warmup=1, steps=10, turns=2)
        clock.total_steps = 1000
        clock._start, clock._moments = 0.0, [start, start + 10 * step, start + 20 * step]
        return clock

    row = compilation._row([clock(0.02, 1), clock(0.02, 1)], [clock(0.01, 31), clock(0.01, 6)])
    assert row["ratio"].values == pytest.approx((0.5, 0.5))
    assert (row["start, s"], row["start again, s"]) == (30, 5)
    assert row["whole fit, s"] == pytest.approx(20)
    assert row["compiled fit, s"] == pytest.approx(10 + 30)
