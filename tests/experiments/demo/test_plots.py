"""Pictures are drawn for the pieces that promise one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.demo.pieces import pieces
from experiments.demo.plots import PLOTS, draw


def test_the_pieces_that_promise_a_picture_have_one() -> None:
    assert set(PLOTS) == {piece.name for piece in pieces().values() if piece.picture}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_fills_its_area_and_clips_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    draw(name, path)
    pixels = np.asarray(Image.open(path).convert("L"))
    height, width = pixels.shape
    assert 400 <= width <= 1300
    inked = np.argwhere(pixels < 250)
    (top, left), (bottom, right) = inked.min(0), inked.max(0)
    assert min(top, left, height - 1 - bottom, width - 1 - right) >= 1, "something is cut off"
    assert max(top, left, height - 1 - bottom, width - 1 - right) <= 40, "an edge is empty"
    assert len(np.unique(pixels)) > 20
