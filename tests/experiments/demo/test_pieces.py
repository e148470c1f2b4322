"""Every demo: ours is the library's, the mistake shows, the code that it names runs, and the table fits."""

import ast
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from experiments.demo import pieces as catalogue
from experiments.demo.outcome import Outcome, Result, distance
from experiments.demo.pieces import TOPICS, Piece, pieces
from experiments.demo.printout import WIDTH, render
from experiments.demo.running import run

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = Path(catalogue.__file__).parent
ALL = list(pieces().values())
LOOSE = {"entropy": 1e-6, "shuffle": 0.011, "reservoir": 0.013, "pi": 0.36}
"""Tolerances above rounding: a library that clamps, and random numbers (three standard deviations)."""


def traced(piece: Piece) -> tuple[Outcome, set[str]]:
    """Run a demo; return its outcome and the product's files whose functions ran."""
    files = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        outcome = run(piece)
    finally:
        sys.setprofile(before)
    return outcome, {
        str(Path(f).relative_to(REPOSITORY)) for f in files if Path(f).is_relative_to(REPOSITORY)
    }


@pytest.mark.parametrize("piece", ALL, ids=lambda piece: piece.name)
def test_a_demo_agrees_with_the_library_and_shows_the_mistake(piece: Piece) -> None:
    outcome, files = traced(piece)
    assert piece.code in files, f"the demo does not run {piece.code}"
    for result in outcome.results:
        assert result.difference <= result.tolerance <= LOOSE.get(piece.name, 1e-12), result.what
    wrong = [result for result in outcome.results if result.wrong]
    assert wrong
    text = render(piece, outcome)
    for result in wrong:
        assert result.wrong
        assert (
            distance(result.ours, result.wrong[1]) > max(1e-4, 1.5 * result.tolerance) or piece.name == "pi"
        )
        assert f"wrong: {result.wrong[0]}" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert not re.search(r"\d\.\d{4}\S", text), "numbers touch each other"
    assert "…" not in "".join(result.oracle for result in outcome.results), "a name is cut"


@pytest.mark.parametrize("piece", ALL, ids=lambda piece: piece.name)
def test_a_demo_gives_the_same_numbers_again_and_leaves_the_random_state(piece: Piece) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = render(piece, run(piece))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert render(piece, run(piece)) == first


def demos() -> dict[str, ast.FunctionDef]:
    """The source of every demo, by name."""
    return {
        node.name: node
        for path in FOLDER.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name in pieces()
    }


def test_a_demo_is_short() -> None:
    for name, node in demos().items():
        assert (node.end_lineno or 0) - node.body[1].lineno < 30, name


def test_every_file_with_demos_is_a_topic() -> None:
    with_demos = {
        path.stem
        for path in FOLDER.glob("*.py")
        if '-> Outcome:\n    """' in path.read_text(encoding="utf-8") and path.stem != "running"
    }
    assert with_demos == set(TOPICS)
    assert len(pieces()) == sum(
        len([n for n in ast.parse((FOLDER / f"{file}.py").read_text()).body if _is_demo(n)])
        for file in TOPICS
    )


def _is_demo(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_")


def test_every_file_that_a_piece_names_exists() -> None:
    for piece in ALL:
        assert (REPOSITORY / piece.code).is_file(), piece.name


@pytest.mark.parametrize(
    ("ours", "library", "difference"),
    [
        (torch.tensor([1.0, torch.inf, torch.nan]), torch.tensor([1.5, torch.inf, torch.nan]), 0.5),
        (torch.zeros(2), torch.tensor([0.0, torch.nan]), torch.inf),
        (torch.zeros(2), torch.zeros(2, 1), torch.inf),
        (torch.inf, -torch.inf, torch.inf),
        (2, 2.25, 0.25),
        ("a", 1.0, torch.inf),
    ],
    ids=str,
)
def test_a_difference_is_not_hidden(ours: Any, library: Any, difference: float) -> None:
    assert Result("x", ours, "library", library).difference == difference
