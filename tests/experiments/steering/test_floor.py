from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.integrate import quad
from scipy.optimize import brentq

from experiments.steering.floor import (
    loss_curves,
    main,
    quarter_circle_floor,
    rank_floors,
    synthetic_floors,
)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_laws_floor_is_the_integral_over_the_small_singular_values(share: float) -> None:
    def density(x: float) -> float:
        return np.sqrt(4 - x**2) / np.pi

    cut = brentq(lambda c: quad(density, 0, c)[0] - (1 - share), 0, 2) if 0 < share < 1 else 2 * (1 - share)
    energy = quad(lambda x: x**2 * density(x), 0, cut)[0]
    assert quarter_circle_floor(1000, round(1000 * share)) == pytest.approx(1000 * energy, abs=1e-3)


def test_the_floor_of_the_demonstration() -> None:
    assert quarter_circle_floor(2048, 1024) == pytest.approx(217.6, abs=0.05)


def test_a_drawn_w_keeps_to_the_law_and_a_fit_to_samples_stays_above() -> None:
    """At an eighth of the width and as many pairs per entry, every figure is an eighth."""
    floors = synthetic_floors(256, 1250, 128, seed=1)
    assert 8 * floors["law"] == pytest.approx(217.6, abs=0.1)
    assert floors["best"] == pytest.approx(floors["law"], rel=0.05)
    assert 8 * floors["fitted"] == pytest.approx(254, rel=0.05)
    assert floors["zero"] == pytest.approx(256, rel=0.05)


def test_the_floors_are_those_of_maps_made_by_svd_and_scored_on_fresh_pairs() -> None:
    generator = np.random.default_rng(0)
    weight, states = generator.normal(size=(12, 12)), generator.normal(size=(60, 12))
    floors = rank_floors(states, weight, 5, noise=0.0)
    fresh = generator.normal(size=(200_000, 12))

    def error(rank_map: np.ndarray) -> float:
        assert np.linalg.matrix_rank(rank_map) == 5
        return float(((fresh @ (weight - rank_map)) ** 2).mean())

    u, s, v = np.linalg.svd(weight)
    assert floors["best"] == pytest.approx(error(u[:, :5] * s[:5] @ v[:5]), rel=0.02)
    u, s, v = np.linalg.svd(states @ weight, full_matrices=False)
    fitted = np.linalg.lstsq(states, u[:, :5] * s[:5] @ v[:5], rcond=None)[0]
    assert floors["fitted"] == pytest.approx(error(fitted), rel=0.02)
    assert floors["best"] < floors["fitted"] < floors["zero"]
    assert floors["zero"] == pytest.approx((fresh @ weight).var(), rel=0.02)


def test_enough_units_leave_only_the_noise() -> None:
    floors = synthetic_floors(16, 80, 16, noise=0.5)
    assert floors["law"] == floors["best"] == floors["fitted"] == pytest.approx(0.25)


def write_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    (folder / "metrics.csv").write_text(
        "step,epoch,name,value\n50,0,train/loss,30.5\n60,0,val/loss,40\n100,1,train/loss,20\n120,1,val/loss,35\n"
    )
    return folder


def test_curves_are_read_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "study" / "usual" / "seed_0")
    assert loss_curves(run) == {
        "train/loss": [(50, 30.5), (100, 20.0)],
        "val/loss": [(60, 40.0), (120, 35.0)],
    }
    picture = tmp_path / "made" / "floor.png"
    sizes = ["--width", "32", "--size", "160", "--hidden", "16"]
    assert main([str(tmp_path / "study"), *sizes, "--output", str(picture)]) == 0
    assert "rank 16, by the quarter-circle law: 3.4" in capsys.readouterr().out
    with Image.open(picture) as image:
        assert image.size[0] > 600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "absent: no such directory"),
        (["."], "no run with a metrics.csv in ."),
        (["--size", "100"], "--size greater than --width"),
    ],
)
def test_refuses_what_can_not_be_drawn(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
