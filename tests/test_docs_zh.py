"""The Chinese pages have the commands, code, pictures and figures of the English ones."""

import re
from pathlib import Path

import pytest

from experiments.demo.pieces import pieces

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK_START = ("## Configs", "## 接下来读什么")
"""The headings at which the part that both READMEs share ends."""
PAIRS = [
    (REPOSITORY / "README.md", REPOSITORY / "README.zh.md"),
    (REPOSITORY / "docs" / "tutorials" / "first_run.md", REPOSITORY / "docs" / "zh" / "first_run.md"),
]


def shared(path: Path) -> str:
    """The part of a page that exists in both languages."""
    text = path.read_text(encoding="utf-8")
    for heading in QUICK_START:
        text = text.partition(f"\n{heading}")[0]
    return text


def fences(text: str) -> list[tuple[str, str]]:
    return [(m[2], m[3]) for m in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", text, re.M | re.S)]


def numbers(text: str) -> list[str]:
    """The numbers of a text, sorted, because two languages may order them differently."""
    return sorted(re.findall(r"\d+(?:\.\d+)?", text))


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def code(text: str) -> set[str]:
    """The words in backticks."""
    return set(re.findall(r"`([^`\n]+)`", prose(text)))


def targets(text: str) -> list[str]:
    """The file names of pictures."""
    return [Path(target).name for target in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda path: path.name)
def test_code_pictures_and_figures_are_those_of_the_english_page(english: Path, chinese: Path) -> None:
    ours, theirs = shared(chinese), shared(english)
    assert len(fences(theirs)) >= 7
    assert fences(ours) == fences(theirs)
    assert targets(ours) == targets(theirs) != []
    assert numbers(prose(ours)) == numbers(prose(theirs))
    assert len(re.findall(r"^#+ ", ours, re.M)) == len(re.findall(r"^#+ ", theirs, re.M))
    assert code(ours) == code(theirs)


def test_every_piece_is_in_the_chinese_table_with_its_source_file_command_and_figures() -> None:
    page = (REPOSITORY / "docs" / "zh" / "pieces.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) == len(pieces())
    for row, piece in zip(rows, pieces().values(), strict=True):
        does, formula, mistake, code, command = row.removeprefix("| ").removesuffix(" |").split(" | ")
        assert does.startswith(f"**{piece.name}**：")
        assert formula.endswith(f"（{piece.source}）")
        assert numbers(formula) == numbers(piece.formula + piece.source)
        assert set(numbers(mistake)) >= set(numbers(piece.mistake))
        assert all(re.search(r"[\u4e00-\u9fff]", text) for text in (does, mistake)), piece.name
        assert code == f"[{Path(piece.code).name}](../../{piece.code})"
        assert command == f"`{piece.command}`"
