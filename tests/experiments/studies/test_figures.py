"""Figures are small files, and their labels are drawn in fonts that have them."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from experiments.studies import figures


def test_a_figure_is_a_small_picture_that_looks_the_same(tmp_path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    for number in range(6):
        axes = figure.add_subplot(2, 3, number + 1)
        axes.plot(np.random.default_rng(number).standard_normal((200, 3)).cumsum(0), alpha=0.5)
    figures.save(figure, tmp_path / "ours.png")
    figure.savefig(tmp_path / "plain.png", dpi=120)
    ours, plain = (tmp_path / f"{name}.png" for name in ("ours", "plain"))
    assert ours.stat().st_size < 0.6 * plain.stat().st_size
    pixels = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (ours, plain)]
    assert pixels[0].shape == pixels[1].shape == (480, 960, 3)
    assert np.abs(pixels[0] - pixels[1]).mean() < 2


def test_small_marks_keep_their_colours(tmp_path: Path) -> None:
    figure = Figure(figsize=(8, 4))
    figure.add_subplot().plot(np.random.default_rng(0).standard_normal((200, 3)).cumsum(0), alpha=0.5)
    for number in range(8):
        figure.axes[0].plot(10 * number, 0, "o", color=f"C{number}", markersize=5)
    figures.save(figure, tmp_path / "ours.png")
    figure.savefig(tmp_path / "plain.png", dpi=120)
    pixels = [
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        for name in ("ours", "plain")
    ]
    assert np.abs(pixels[0] - pixels[1]).max() < 60


def test_a_label_gets_the_fonts_that_it_needs(tmp_path: Path, monkeypatch) -> None:
    serif = Path(figures.default_file()).with_name("DejaVuSerif.ttf")
    monkeypatch.setattr(figures, "file_with", lambda c: serif if c == "中" else figures.default_file())
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_title("标 中".replace("标", "é"))
    figures.save(figure, tmp_path / "figure.png")
    assert axes.title.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]
    assert axes.xaxis.label.get_fontfamily() != axes.title.get_fontfamily()


def test_a_character_that_no_font_has_is_said_in_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    figures.say_missing.cache_clear()
    monkeypatch.setattr(figures, "file_with", lambda c: None)
    figure = Figure()
    figure.add_subplot().set_title("中")
    figures.save(figure, tmp_path / "figure.png")
    assert "fonts-noto-cjk" in capsys.readouterr().out
    figures.say_missing.cache_clear()
