"""The figures in the README, the docs and the heads of the configs are those of `docs/results.json`."""

import runpy
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
RENDER = runpy.run_path(str(REPOSITORY / "docs" / "render.py"))
RESULTS: Any = RENDER["Results"]()
LARGEST_PICTURE = 60_000


def test_every_document_shows_the_stored_figures() -> None:
    stale = [
        path.name for path, text in RENDER["rendered"](RESULTS) if text != path.read_text(encoding="utf-8")
    ]
    assert stale == [], "run `python docs/render.py`"


def test_every_table_is_shown_once() -> None:
    documents = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in documents)
    counts = {name: text.count(f"<!-- results: {name} -->") for name in RESULTS.tables}
    assert counts == dict.fromkeys(RESULTS.tables, 1)


def test_every_config_has_a_result_and_every_result_a_config() -> None:
    assert sorted(RESULTS.configs) == sorted(path.stem for path in (REPOSITORY / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", RESULTS.configs)
def test_every_config_has_a_picture_or_says_why_not(name: str) -> None:
    config = RESULTS.configs[name]
    if "no_picture" in config:
        assert config["no_picture"].endswith(".")
        return
    for file in config.get("pictures", [f"{name}.png"]):
        path = REPOSITORY / "docs" / "pictures" / file
        assert path.is_file(), "run the config and `compare`, and copy comparison.png; or give no_picture"
        assert path.stat().st_size < LARGEST_PICTURE, path.name


def test_the_pictures_of_the_docs_are_small() -> None:
    for path in (REPOSITORY / "docs" / "pictures").iterdir():
        assert path.stat().st_size < LARGEST_PICTURE, path.name


@pytest.mark.parametrize("name", RESULTS.tables)
def test_a_spread_comes_with_several_seeds(name: str) -> None:
    for row in RESULTS.figures[name].values():
        seeds = row.get("seeds", "")
        if seeds.isdecimal():
            assert "±" not in row["accuracy"]
        elif seeds:
            assert "±" in row["accuracy"]


def test_a_figure_is_formatted_whole_as_mean_and_as_time() -> None:
    figure = RENDER["Figure"]
    assert f"{figure('99.56 ± 0.08')} {figure('99.56 ± 0.08'):mean}" == "99.56 ± 0.08 99.56"
    assert (
        f"{figure('182 (seed 0)'):time}, {figure('7.4 ± 1.4'):time}, {figure('2,669'):time}"
        == "3 min, 7 s, 44 min"
    )
    with pytest.raises(ValueError, match="use mean or time"):
        format(figure("1"), "median")


def test_rendering_replaces_the_figures_of_a_document_and_of_a_head(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("Before.\n\n<!-- results: hello -->\n| stale |\n<!-- end -->\n\nAfter.\n")
    text = RESULTS.document(document)
    assert "stale" not in text
    assert "| cells_4 | 4 |" in text
    assert text.startswith("Before.\n")
    assert text.endswith("<!-- end -->\n\nAfter.\n")
    config = tmp_path / "mnist_vit.yaml"
    config.write_text("# A.\n#\n# Shows:   B.\n# Costs:   stale\n# Reaches: stale\n#\n# C.\nname: x\n")
    head = RESULTS.head(config)
    assert "stale" not in head
    assert head.endswith("#\n# C.\nname: x\n")
    assert "# Reaches: 99.22 % test accuracy" in head


def test_a_column_is_drawn_as_dots_with_their_spread() -> None:
    figure = runpy.run_path(str(REPOSITORY / "docs" / "figure.py"))
    cells = {"99.56 ± 0.08": (99.56, 0.08), "14 (the same seeds)": (14, 0), "2,669": (2669, 0), "–": None}
    assert {cell: figure["numbers"](cell) for cell in cells} == cells
    (axes,) = figure["draw"](RESULTS, "hello", "right").axes
    rows = RESULTS.figures["hello"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(rows)
    dots = [bar.lines[0].get_xdata()[0] for bar in axes.containers]
    assert dots == [figure["numbers"](row["right"])[0] for row in rows.values()]
    assert [text.get_text() for text in axes.texts] == [row["right"] for row in rows.values()]
