"""The reference in the documentation is what the schemas and the parsers say today."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from experiments.commands import COMMANDS
from experiments.config import registry
from experiments.config.describe import describe
from experiments.config.trainer import TrainerConfig
from experiments.demo.pieces import pieces

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "reference.py"


def _script() -> ModuleType:
    """Import the script, which is not part of a package."""
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _script()


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_page_is_current(name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run `python docs/reference.py`"


def test_every_component_setting_and_command_is_there() -> None:
    page = reference.configuration()
    for kind, entries in registry.CATALOG.items():
        for name in entries:
            assert f"\n### {name}\n" in page
            prefix = reference.PREFIXES.get(kind, f"{kind}.")
            for setting in describe(registry.schema(kind, name), prefix):
                assert f"| `{setting.key}` | " in page
    for setting in describe(TrainerConfig, "trainer."):
        assert f"| `{setting.key}` | " in page
    listed = reference.commands()
    for command in COMMANDS:
        assert f"\n## {command}\n" in listed


def test_every_piece_has_its_formula_mistake_file_and_command() -> None:
    page = reference.piece_table()
    for name, piece in pieces().items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| **{name}**: "))
        for text in (piece.does, piece.formula, piece.source, piece.mistake, piece.code, piece.command):
            assert reference._escape(text) in row or text in row


def test_what_may_change_on_a_resume_is_marked() -> None:
    rows = {
        line.split("`")[1]: line for line in reference.configuration().splitlines() if line.startswith("| `")
    }
    assert rows["trainer.max_epochs"].endswith("| free |")
    assert rows["trainer.precision"].endswith("|  |")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("runs/<name> a*b", r"runs/\<name> a\*b"), ("x | y", r"x \| y"), ("`a|b_<c>`", r"`a\|b_<c>`")],
)
def test_text_is_not_taken_for_markup(text: str, escaped: str) -> None:
    assert reference._escape(text) == escaped


def test_the_command_writes_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    assert reference.main([]) == 0
    assert all((tmp_path / "reference" / name).is_file() for name in reference.PAGES)
    assert reference.main(["x"]) == 2
    assert "takes no arguments" in capsys.readouterr().err
