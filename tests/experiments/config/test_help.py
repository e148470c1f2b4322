"""The help names every option, every setting with its range and default, and every choice."""

import dataclasses
import re
from pathlib import Path

import pytest

from experiments.config import help as manual
from experiments.config import registry
from experiments.config.check import load_config
from experiments.config.root import RootConfig
from experiments.config.trainer import TrainerConfig


def test_the_page_without_a_config_lists_all_options_settings_and_pieces() -> None:
    page = manual.usage(None)
    for option in manual.OPTIONS:
        assert re.search(rf"^  {option} +\S", page, re.M)
    for prefix, schema in (("", RootConfig), ("trainer.", TrainerConfig)):
        for field in dataclasses.fields(schema):
            assert re.search(rf"^  {prefix}{field.name} = ", page, re.M), field.name
            assert field.metadata["help"].split(".")[0][:30] in page
    for kind in ("model", "data", "optimizer", "schedule"):
        for name in registry.CATALOG[kind]:
            assert re.search(rf"^  {name} +\S", page, re.M), name


def test_the_page_of_a_config_has_its_pieces_settings_with_range_and_default() -> None:
    experiment = load_config({"model": {"name": "mlp"}, "data": {"name": "digits"}, "optimizer.name": "sgd"})
    page = manual.usage(experiment)
    for heading in ("model: mlp", "data: digits", "optimizer: sgd", "schedule: constant"):
        assert re.search(rf"^{heading}$", page, re.M)
    words = " ".join(page.split())  # the terminal's width decides where lines break
    assert re.search(r"model\.dropout = 0\.0 [^=]+ Takes a number ≥ 0.0 and < 1.0\.", words)
    assert "data.augment.shift = 0" in page
    assert "optimizer.momentum" in page


def test_the_page_of_a_config_shows_its_own_values_beside_the_defaults() -> None:
    page = manual.usage(load_config("configs/mnist_mlp.yaml", "trainer.max_epochs=3", "data.augment.shift=2"))
    assert "  optimizer.lr = 0.01 (default: 0.1)\n" in page
    assert "  trainer.max_epochs = 3 (default: 10)\n" in page
    assert "  data.augment.shift = 2 (default: 0)\n" in page
    assert "  model.hidden = [512, 256, 128, 64]" in page
    assert "  name = 'mnist_mlp' (default: '')\n" in page
    assert "  optimizer.nesterov = false\n" in page


def test_lines_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = manual.usage(None)
    listing = page.index("model.name")
    indented = [line for line in page[:listing].splitlines() if line.startswith("      ")]
    assert indented
    assert max(map(len, indented)) <= 80


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One thing. And another.\nname: a\n", "One thing"),
        ("# A line that\n# goes on. Rest.\n", "A line that goes on"),
        ("# Ends at the empty line\n#\n# Shows: more. \n", "Ends at the empty line"),
        ("name: a\n# Not at the head.\n", ""),
    ],
)
def test_the_summary_is_the_first_sentence_of_the_head(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert manual.summary(tmp_path / "a.yaml") == expected
