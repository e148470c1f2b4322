"""What the README and the configs' heads say was measured is what docs/results.md says was measured."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
SECONDS = {"s": 1, "minutes": 60, "minute": 60, "min": 60, "h": 3600, "hours": 3600}
NO_FIGURES = ("config", "seeds", "fit seconds", "parameters")
"""Columns of a table that don't say how good a model is."""


@dataclass(frozen=True)
class Measured:
    """A config's row in one of the tables whose first column is `config`."""

    figures: tuple[str, ...]
    """As written: a mean and, over several seeds, ± its spread."""
    seconds: float
    seeds: int | None


def measured(text: str) -> dict[str, Measured]:
    """Every config's row."""
    found: dict[str, Measured] = {}
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        header, _, *rows = (cells(line) for line in table.splitlines())
        if header[0] != "config":
            continue
        for row in rows:
            assert row[0] not in found, f"{row[0]} stands twice"
            named = dict(zip(header, row, strict=True))
            (seconds,) = (numbers(cell)[0] for name, cell in named.items() if name.startswith("fit seconds"))
            seeds = named.get("seeds", "")
            first, *last = seeds.split("–")
            found[row[0]] = Measured(
                figures=tuple(cell for name, cell in named.items() if not name.startswith(NO_FIGURES)),
                seconds=float(seconds.replace(",", "")),
                seeds=(int(last[0]) - int(first) + 1 if last else seeds.count(",") + 1) if first else None,
            )
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)", text)


def rounds_to(figure: str, said: str) -> bool:
    """Whether a text says a figure, perhaps with fewer decimals."""
    decimals = len(said.partition(".")[2])
    exact, rounded = (float(number.replace(",", "")) for number in (figure, said))
    return abs(exact - rounded) <= 0.5 * 10**-decimals + 1e-9


def is_figure_of(said: str, row: Measured) -> bool:
    """Whether what a text says first is a mean of the row, and its spread, where given, the row's."""
    mean, *spread = numbers(re.split(r"[%a-z(]|, ", said)[0])
    for figure in row.figures:
        found = numbers(figure)
        if found and rounds_to(found[0], mean) and (not spread or found[1:] == spread):
            return True
    return False


def says_time(text: str, seconds: float) -> bool:
    """Whether a text names a time within a tenth of it, or within rounding to its unit."""
    units = "|".join(sorted(SECONDS, key=len, reverse=True))
    named = [
        (float(amount) * SECONDS[unit], SECONDS[unit])
        for amount, unit in re.findall(rf"(\d+(?:\.\d+)?) ({units})\b", text)
    ]
    return any(abs(said - seconds) <= max(0.1 * seconds, 0.5 * unit) for said, unit in named)


def seeds_said(text: str, default: int) -> int:
    match = re.search(rf"\b({'|'.join(WORDS)}|\d+) seeds?\b", text)
    return default if match is None else WORDS.get(match[1]) or int(match[1])


def section(name: str) -> str:
    """The parts of the results, from heading to heading, that name a config."""
    parts = re.split(r"^(?=##+ )", RESULTS, flags=re.M)
    return "".join(part for part in parts if re.search(rf"\b{name}\b", part))


def readme_row(name: str) -> tuple[str, str]:
    """Time and result as the README has them."""
    match = re.search(rf"^\| \[{name}\]\(configs/{name}\.yaml\) \|(.+)\|$", README, re.M)
    assert match, f"{name} is not in the README"
    *_, time, result = match[1].split("|")
    return time.strip(), result.strip()


def head(path: Path, word: str) -> str:
    """What a config's head comment says after a word, up to the next such word or an empty line."""
    lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{word}:"))
    rest = itertools.takewhile(lambda line: not re.match(r"$|\w+:", line), lines[start + 1 :])
    return " ".join([lines[start], *rest]).removeprefix(f"{word}:").strip()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_what_was_measured_and_nothing_else(path: Path) -> None:
    time, result = readme_row(path.stem)
    costs, reaches = head(path, "Costs"), head(path, "Reaches")
    row = measured(RESULTS).get(path.stem)
    if row is not None:
        assert is_figure_of(result, row), (result, row)
        assert is_figure_of(reaches, row), (reaches, row)
        assert says_time(time, row.seconds), (time, row)
        assert says_time(costs, row.seconds), (costs, row)
        if row.seeds is not None:
            assert seeds_said(result, default=5) == row.seeds
            assert seeds_said(reaches, default=1) == row.seeds
    elif section(path.stem):  # a study, or measured beside something else: in a table of its own kind
        for figure in (*numbers(result), *numbers(reaches)):
            assert any(rounds_to(found, figure) for found in numbers(section(path.stem))), figure
    else:
        assert (time, result) == ("—", "—")
        assert costs.startswith("not measured")
        assert reaches.startswith("not measured")


def test_no_table_names_a_config_that_is_not_there() -> None:
    assert measured(RESULTS).keys() <= {path.stem for path in CONFIGS}


def test_figures_are_read_as_they_are_written() -> None:
    rows = measured(
        "| config | seeds | test loss | bits per byte | fit seconds, one core | parameters |\n"
        "|---|---|---|---|---|---|\n"
        "| a | 0–2 | 1.523 ± 0.004 | 2.10 | 1,250 ± 13 | 5 |\n| b | 7 | 99.67 | – | 6.3 (of one core) | 6 |\n"
    )
    assert rows == {
        "a": Measured(("1.523 ± 0.004", "2.10"), 1250.0, 3),
        "b": Measured(("99.67", "–"), 6.3, 1),
    }
    assert all(is_figure_of(said, rows["a"]) for said in ("1.523 ± 0.004 nats", "1.52, 9 seeds", "2.10 bits"))
    assert not any(is_figure_of(said, rows["a"]) for said in ("1.523 ± 0.003 nats", "1.53", "5", "1250"))
    assert is_figure_of("99.7 % (one seed), short of 99.8 %", rows["b"])
    assert says_time("about 21 minutes", 1250)
    assert not says_time("about 24 minutes", 1250)
    assert says_time("6 s", 6.3)
    assert not says_time("8 s", 6.3)
    assert not says_time("soon", 6.3)
    assert numbers("99.5 % of 1,797 lm_4 and v2.1") == ["99.5", "1,797"]
    assert (seeds_said("20 seeds", 1), seeds_said("three seeds", 1), seeds_said("", 5)) == (20, 3, 5)
