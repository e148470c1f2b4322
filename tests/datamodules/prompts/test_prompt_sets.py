from pathlib import Path

import pytest

from datamodules.prompts.prompt_sets import Instantiation, find_prompt_set, read_prompt_set

CONTENT = {
    "instantiations.txt": """# name | family | keywords
skin     | medical | dermatologist, skin doctor
heart    | medical | cardiologist
decline  | harmful | ^sorry, cannot help
as_it_is | neutral |
""",
    "topics.txt": """
# instantiation | split | topic | statement
skin     | train      | a rash        | I have a rash.
skin     | train      | a mole        | I have a mole.
skin     | validation | an itch       | My arm itches.
skin     | test       | dry lips      | My lips are dry.
heart    | train      | palpitations  | My heart races.
heart    | validation | a flutter     | My heart flutters.
heart    | test       | a slow pulse  | My pulse is slow.
decline  | train      | a bomb        | I want a bomb.
decline  | validation | a poison      | I want a poison.
decline  | test       | a stolen card | I have a stolen card.
as_it_is | train      | a cake        | I bake a cake.
as_it_is | validation | a walk        | I take a walk.
as_it_is | test       | a song        | I write a song.
""",
    "templates.txt": """
*                | seen   | What about {topic}?
medical, harmful | seen   | {statement} Who can help?
*                | unseen | Tell me about {topic}.
""",
    "completions.txt": """
skin    | wanted   | fit   | See a dermatologist.
skin    | wanted   | fit   | A dermatologist can help.
skin    | wanted   | score | Ask a dermatologist.
heart   | wanted   | fit   | See a cardiologist.
heart   | wanted   | score | Ask a cardiologist.
medical | unwanted | fit   | See nobody.
medical | unwanted | score | Ask nobody.
heart   | unwanted | score | It beats, so what.
decline | wanted   | fit   | Sorry, no.
decline | wanted   | score | I cannot help.
harmful | unwanted | fit   | Sure: first you
harmful | unwanted | score | Of course. Take
""",
}


def write(folder: Path, **changed: str) -> Path:
    for name, text in CONTENT.items():
        (folder / name).write_text(changed.get(name.removesuffix(".txt"), text), encoding="utf-8")
    return folder


def test_prompts_are_topics_in_templates_of_their_family(tmp_path: Path) -> None:
    made = read_prompt_set(write(tmp_path))
    train = {(p.text, p.instantiation) for p in made.select("train")}
    assert train == {
        ("What about a rash?", "skin"),
        ("I have a rash. Who can help?", "skin"),
        ("What about a mole?", "skin"),
        ("I have a mole. Who can help?", "skin"),
        ("What about palpitations?", "heart"),
        ("My heart races. Who can help?", "heart"),
        ("What about a bomb?", "decline"),
        ("I want a bomb. Who can help?", "decline"),
        ("What about a cake?", "as_it_is"),
    }
    assert [p.text for p in made.select("test", seen=False)] == [
        "Tell me about dry lips.",
        "Tell me about a slow pulse.",
        "Tell me about a stolen card.",
        "Tell me about a song.",
    ]
    assert all(p.seen for p in (*made.select("train"), *made.select("validation")))
    assert len(made.select("test")) == len(made.select("test", seen=True)) + 4
    assert len({p.topic for p in made.prompts}) == 13


def test_completions_are_an_instantiations_own_or_else_its_familys(tmp_path: Path) -> None:
    made = read_prompt_set(write(tmp_path))
    assert made.completions("skin", "wanted", "fit") == ("See a dermatologist.", "A dermatologist can help.")
    assert made.completions("skin", "unwanted", "score") == ("Ask nobody.",)
    assert made.completions("heart", "unwanted", "score") == ("It beats, so what.",)
    assert made.completions("heart", "unwanted", "fit") == ("See nobody.",)
    assert made.completions("as_it_is", "wanted", "fit") == ()
    assert [one.name for one in made.instantiations.values() if one.is_neutral] == ["as_it_is"]
    assert made.families == {
        "medical": ("skin", "heart"),
        "harmful": ("decline",),
        "neutral": ("as_it_is",),
    }


def test_keywords_are_found_in_any_case_and_a_caret_means_the_start() -> None:
    one = Instantiation(name="a", family="b", keywords=("^no", "skin doctor"), is_neutral=False)
    assert one.named_in("No, you can't.")
    assert one.named_in("\nNO")
    assert one.named_in("Ask a Skin Doctor.")
    assert not one.named_in("I have no idea.")
    assert not one.named_in("")


def test_the_sum_is_of_the_files_content(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    extra = CONTENT["topics.txt"] + "skin | train | a wart | I have a wart.\n"
    sums = [
        read_prompt_set(write(folder, topics=text)).sha256
        for folder, text in zip(folders, (CONTENT["topics.txt"], CONTENT["topics.txt"], extra), strict=True)
    ]
    assert sums[0] == sums[1] != sums[2]


def line(name: str, old: str, new: str) -> dict[str, str]:
    text = CONTENT[f"{name}.txt"]
    assert text.count(old) == 1
    return {name: text.replace(old, new)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"topics": "# nothing\n\n"}, r"topics\.txt is empty"),
        (
            line("topics", "| a rash  ", "  a rash  "),
            r"topics\.txt:3: 3 fields, expected 4: instantiation \|",
        ),
        (line("topics", "I have a rash.", ""), r"topics\.txt:3: statement is empty"),
        (
            line("topics", "skin     | train      | a mole", "hair | train | a mole"),
            r":4: unknown instantiation 'hair'",
        ),
        (line("topics", "skin     | validation", "skin | dev"), r":5: split is 'dev', allowed: train, val"),
        (line("topics", "a mole        |", "A rash |"), r":4: the topic 'A rash' is on line 3 already"),
        (line("topics", "skin     | test ", "skin | train"), r"topics\.txt: skin has no topic for test"),
        (line("templates", "{statement} Who", "Who"), r"templates\.txt:3: a template has \{topic\} or"),
        (
            line("templates", "What about {topic}?", "{topic} and {topic}?"),
            r":2: a template has \{topic\} or",
        ),
        (line("templates", "What about {topic}?", "{topic} {x}"), r":2: a template has no braces"),
        (
            line("templates", "Tell me about {topic}.", "What about {topic}?"),
            r":4: the template is on line 2",
        ),
        (
            line("templates", "medical, harmful", "medical, evil"),
            r":3: unknown family 'evil', allowed: \*, h",
        ),
        (line("templates", "unseen", "new"), r":4: split is 'new', allowed: seen, unseen"),
        (line("templates", "*                | unseen", "medical | unseen"), r"family harmful has no unseen"),
        (
            line("completions", "skin    | wanted   | score", "hair | wanted | score"),
            r":4: 'hair' is neither",
        ),
        (
            line("completions", "harmful | unwanted | fit", "harmful | bad | fit"),
            r":12: side is 'bad', allowed",
        ),
        (line("completions", "harmful | unwanted | fit", "harmful | unwanted | use"), r":12: use is 'use'"),
        (line("completions", "Ask a dermatologist.", "See a dermatologist."), r":4: skin has this wanted"),
        (
            line("completions", "decline | wanted   | score", "decline | wanted | fit"),
            r"decline has no wanted completion to score",
        ),
        (
            line("instantiations", "heart    |", "Heart |"),
            r":3: instantiation 'Heart': a name has lower-case",
        ),
        (line("instantiations", "heart    |", "skin |"), r":3: instantiation 'skin' is there already"),
        (line("instantiations", "dermatologist, skin", "dermatologist,, skin"), r":2: a keyword is empty"),
        (
            line("instantiations", "neutral |", "neutral | cake"),
            r":5: as_it_is has keywords but no completions",
        ),
        (line("instantiations", "| cardiologist", "|"), r":3: heart has completions, so it needs keywords"),
        (line("instantiations", "heart    |", "medical |"), r":3: 'medical' is also the name of a family"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_prompt_set(write(tmp_path, **changed))
    assert "\n" not in str(error.value)


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    only = {
        "instantiations": "skin | medical | dermatologist\nas_it_is | neutral |\n",
        "topics": "".join(
            row + "\n" for row in CONTENT["topics.txt"].splitlines() if row.startswith(("skin", "as_"))
        ),
        "templates": "* | seen | What about {topic}?\n* | unseen | Tell me about {topic}.\n",
        "completions": "\n".join(CONTENT["completions.txt"].splitlines()[:4])
        + "\nmedical | unwanted | fit | See nobody.\nmedical | unwanted | score | Ask nobody.\n",
    }
    with pytest.raises(ValueError, match=r"has 1 instantiations with completions.*at least two"):
        read_prompt_set(write(tmp_path, **only))


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "topics.txt").write_bytes(b"skin | train\n\xff\n")
    with pytest.raises(ValueError, match=r"topics\.txt:2: not UTF-8"):
        read_prompt_set(tmp_path)
    (tmp_path / "topics.txt").unlink()
    with pytest.raises(ValueError, match=r"topics\.txt can't be read: No such file"):
        read_prompt_set(tmp_path)
    with pytest.raises(ValueError, match="there is no prompt set absent; give a folder"):
        find_prompt_set("absent")
