"""Every published config: its head comment, its place in the README, and a dry run on its real data."""

import re
from pathlib import Path

import pytest

from experiments import config
from experiments.help import summary
from experiments.run import main

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
PRESETS = sorted((REPOSITORY / "configs" / "presets").glob("*.yaml"))


def table_rows() -> dict[str, list[str]]:
    rows = re.findall(
        r"^\| \[(\w+)\]\(configs/\w+\.yaml\) \|(.+)\|$", (REPOSITORY / "README.md").read_text(), re.M
    )
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_the_readme_lists_exactly_the_configs_there_are() -> None:
    assert sorted(table_rows()) == [path.stem for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_what_it_shows_costs_and_reaches(path: Path) -> None:
    comment = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    for word in ("Shows:", "Costs:", "Reaches:", f"python -m experiments.run configs/{path.name}"):
        assert word in comment
    assert 10 < len(summary(path)) < 140


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_builds_and_runs_a_batch_of_each_stage(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)  # data sets are fetched into its data folder once
    before = set(REPOSITORY.glob("runs/**/*"))
    assert main([str(path), "--dry-run"]) == 0
    assert f"dry run of {path.stem}" in capsys.readouterr().out
    assert set(REPOSITORY.glob("runs/**/*")) == before


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_merges_over_a_config(path: Path) -> None:
    base = "lm_char_tiny_shakespeare" if path.stem in ("gpt2", "llama") else "mnist_cnn"
    merged = config.load(f"configs/{base}.yaml", path)
    assert merged.plain != config.load(f"configs/{base}.yaml").plain
    assert merged.name == base
