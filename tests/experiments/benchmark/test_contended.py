import multiprocessing

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import contended


def test_speeds_are_those_of_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up, and the time until the neighbours are there, are not counted."""
    measured, changed = multiprocessing.Event(), multiprocessing.Event()
    windows = contended.Windows(2.0, measured, changed)
    clock = [0.0]
    monkeypatch.setattr(contended.time, "perf_counter", lambda: clock[0])

    def work(moment: float, units: float) -> bool:
        clock[0] = moment
        return windows.count(units)

    assert not work(0.0, 1000)
    assert not work(1.0, 5)
    assert not measured.is_set()
    assert not work(2.0, 5)
    assert measured.is_set()
    assert not work(50.0, 1000)
    changed.set()
    assert not work(60.0, 1000)
    assert not work(61.0, 1)
    assert work(64.0, 3)
    assert windows.speeds == [5.0, 1.0]


@pytest.mark.slow
def test_command(tmp_path, capsys) -> None:
    assert command.main(["contended", "--quick", "--json", str(tmp_path / "contended.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("loading, samples/s") == 4
