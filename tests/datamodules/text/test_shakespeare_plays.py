"""The plays without their markup, on the real files."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from datamodules.assets.fetch import fetch
from datamodules.text.shakespeare_plays import (
    PLAY_MEMBERS,
    Play,
    Plays,
    plain_text,
    read_plays,
    spoken_text,
)


@pytest.fixture(scope="module")
def folder(data_root: Path) -> Path:
    return fetch("shakespeare", data_root)


@pytest.fixture(scope="module")
def plays(folder: Path) -> list[Play]:
    return list(read_plays(folder))


@pytest.mark.network
def test_all_plays_are_read_in_the_order_of_names(plays: list[Play]) -> None:
    assert len(plays) == len(PLAY_MEMBERS) == 38
    assert [play.name for play in plays] == sorted(play.name for play in plays)
    genres = [play.genre for play in plays]
    assert {g: genres.count(g) for g in genres} == {
        "comedies": 8,
        "histories": 11,
        "problems": 5,
        "roman": 4,
        "romances": 4,
        "tragedies": 6,
    }


@pytest.mark.network
def test_no_word_is_lost_or_added(plays: list[Play], folder: Path) -> None:
    for play in plays:
        markdown = (folder / play.genre / f"{play.name}.md").read_text(encoding="utf-8")
        words = re.compile(r"[^\W_]+|[&$—!?.,;]")
        assert words.findall(play.text) == words.findall(markdown)


@pytest.mark.network
def test_no_markup_is_left(plays: list[Play]) -> None:
    for play in plays:
        assert not re.search(r"[*_\\#\r\t]| \n|\n\n\n|\[\[|\A\n|\n\n\Z", play.text)
        assert play.text.endswith("\n")
        left_open = play.text.count("[") - play.text.count("]")
        assert left_open == (play.name == "the-tempest")  # where the source forgets to close one


@pytest.mark.network
def test_the_text_is_the_same_everywhere(plays: list[Play], folder: Path) -> None:
    """Trained vocabularies and published figures depend on the exact text."""
    text = "".join(Plays(folder).chunks())
    assert text == "\n".join(play.text for play in plays)
    assert len(text) == 4_998_183
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256


SHA256 = "4d4c625acf73aa462f744b18f5995125c4dfd81ae168b663a019eb53a3987213"


def test_layout_by_example() -> None:
    markdown = (
        "# Hamlet\n\n## ACT I\n\n### SCENE I. Elsinore.  \n\n_FRANCISCO at his post.\nEnter BERNARDO_\n\n"
        "**BERNARDO**  \nWho's there?\n\n\n**FRANCISCO**  \n_\\[Aside]_  \nNay, _answer_ me:'\\--stand\n\n"
        "*Exit Audley.*\n\n__\\[Within]_\n\n[Reads]_\n1\\. One\n\n"
    )
    assert plain_text(markdown) == (
        "Hamlet\n\nACT I\n\nSCENE I. Elsinore.\n\n[FRANCISCO at his post.\nEnter BERNARDO]\n\n"
        "BERNARDO:\nWho's there?\n\nFRANCISCO:\n[Aside]\nNay, answer me:'--stand\n\n"
        "[Exit Audley.]\n\n[Within]\n\n[Reads]\n1. One\n"
    )


def test_spoken_text_by_example() -> None:
    markdown = (
        "# Hamlet\n\n## ACT I\n\n### SCENE I. Elsinore.  \n\n_FRANCISCO at his post.\nEnter BERNARDO_\n\n"
        "**BERNARDO**  \nWho's there?\n\n\n**FRANCISCO**  \n_\\[Aside]_  \nNay, _answer_ me:'\\--stand\n\n"
        "*Exit Audley.*\n\n[Reads]_\n1\\. One\n\n_\\[left open\nGo on.\n"
    )
    assert spoken_text(markdown) == "Who's there?\n\nNay, answer me:'--stand\n\n1. One\n\nGo on.\n"


@pytest.mark.slow
@pytest.mark.network
def test_only_headings_speakers_and_brackets_are_removed(folder: Path, plays: list[Play]) -> None:
    def count(text: str) -> Counter[str]:
        return Counter(re.findall(r"[^\W_]+", text))

    for play, spoken in zip(plays, read_plays(folder, text_of=spoken_text), strict=True):
        assert (spoken.name, spoken.genre) == (play.name, play.genre)
        markdown = (folder / play.genre / f"{play.name}.md").read_text(encoding="utf-8")
        headings = "\n".join(line for line in markdown.splitlines() if line.startswith("#"))
        speakers = "\n".join(line for line in markdown.splitlines() if re.match(r"\*\*[^*]+\*\*\s*$", line))
        bracketed = "\n".join(re.findall(r"\[[^\]]*\]", play.text))
        left_out = count(play.text) - count(spoken.text)
        expected = count("\n".join([headings, speakers, bracketed]))
        assert (count(spoken.text) - count(play.text)).total() == 0
        if play.name == "the-tempest":  # where the source forgets to close a bracket
            assert ((left_out - expected) + (expected - left_out)).total() < 20
        else:
            assert left_out == expected


@pytest.mark.network
def test_genres_share_the_plays_among_them(folder: Path, plays: list[Play]) -> None:
    roman = "".join(Plays(folder, ("roman",)).chunks())
    others = "".join(Plays(folder, ("comedies", "histories", "problems", "romances", "tragedies")).chunks())
    assert roman == "\n".join(play.text for play in plays if play.genre == "roman")
    assert len(roman) + len(others) + 1 == len("".join(Plays(folder).chunks()))
