from pathlib import Path

import pytest

from datamodules.prompts.prompt_sets import Instantiation, find_prompt_set, read_prompt_set

CONTENT = {
    "instantiations.csv": """instantiation,family,keywords
skin,medical,dermatologist; skin doctor
heart,medical,cardiologist
decline,harmful,^sorry; cannot help
as_it_is,neutral,
""",
    "topics.csv": """instantiation,split,topic,statement
skin,train,a rash,I have a rash.
skin,train,a mole,I have a mole.
skin,validation,an itch,My arm itches.
skin,test,dry lips,My lips are dry.
heart,train,palpitations,My heart races.
heart,validation,a flutter,My heart flutters.
heart,test,a slow pulse,My pulse is slow.
decline,train,a bomb,I want a bomb.
decline,validation,a poison,I want a poison.
decline,test,a stolen card,I have a stolen card.
as_it_is,train,a cake,I bake a cake.
as_it_is,validation,a walk,I take a walk.
as_it_is,test,a song,I write a song.
""",
    "templates.csv": """families,split,template
*,seen,What about {topic}?
medical; harmful,seen,{statement} Who can help?
*,unseen,Tell me about {topic}.
""",
    "completions.csv": """for,side,use,completion
skin,wanted,fit,See a dermatologist.
skin,wanted,fit,A dermatologist can help.
skin,wanted,score,Ask a dermatologist.
heart,wanted,fit,See a cardiologist.
heart,wanted,score,Ask a cardiologist.
medical,unwanted,fit,See nobody.
medical,unwanted,score,Ask nobody.
heart,unwanted,score,"It beats, so what."
decline,wanted,fit,"Sorry, no."
decline,wanted,score,I cannot help.
harmful,unwanted,fit,Sure: first you
harmful,unwanted,score,Of course. Take
""",
}


def write(folder: Path, **changed: str) -> Path:
    for name, text in CONTENT.items():
        (folder / name).write_text(changed.get(name.removesuffix(".csv"), text), encoding="utf-8")
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


def line(name: str, old: str, new: str) -> dict[str, str]:
    text = CONTENT[f"{name}.csv"]
    assert text.count(old) == 1
    return {name: text.replace(old, new)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"topics": "instantiation,split,topic,statement\n\n"}, r"topics\.csv has no rows"),
        ({"topics": "topic,split\n"}, r"topics\.csv: the first line must be instantiation,split,topic,st"),
        (line("topics", ",a rash,", ",a rash "), r"topics\.csv:2: 3 fields, expected 4: instantiation, "),
        (line("topics", "I have a rash.", ""), r"topics\.csv:2: statement is empty"),
        (line("topics", "skin,train,a mole", "hair,train,a mole"), r":3: unknown instantiation 'hair'"),
        (line("topics", "skin,validation", "skin,dev"), r":4: split is 'dev', allowed: train, val"),
        (line("topics", ",a mole,", ",A rash,"), r":3: the topic 'A rash' is already on line 2"),
        (line("topics", "skin,test", "skin,train"), r"topics\.csv: skin has no topic for test"),
        (line("templates", "{statement} Who", "Who"), r"templates\.csv:3: a template contains \{topic\} or"),
        (line("templates", "What about {topic}?", "{topic} and {topic}?"), r":2: a template contains \{t"),
        (line("templates", "What about {topic}?", "{topic} {x}"), r":2: a template contains no braces"),
        (
            line("templates", "Tell me about {topic}.", "What about {topic}?"),
            r":4: the template is already on line 2",
        ),
        (
            line("templates", "medical; harmful", "medical; evil"),
            r":3: unknown family 'evil', allowed: \*, h",
        ),
        (line("templates", "unseen", "new"), r":4: split is 'new', allowed: seen, unseen"),
        (line("templates", "*,unseen", "medical,unseen"), r"family harmful has no unseen"),
        (line("completions", "skin,wanted,score", "hair,wanted,score"), r":4: 'hair' is neither"),
        (line("completions", "harmful,unwanted,fit", "harmful,bad,fit"), r":12: side is 'bad', allowed"),
        (line("completions", "harmful,unwanted,fit", "harmful,unwanted,use"), r":12: use is 'use'"),
        (line("completions", "Ask a dermatologist.", "See a dermatologist."), r":4: skin already has this w"),
        (
            line("completions", "decline,wanted,score", "decline,wanted,fit"),
            r"decline has no wanted completion to score",
        ),
        (line("instantiations", "heart,", "Heart,"), r":3: instantiation 'Heart': a name consists of"),
        (line("instantiations", "heart,", "skin,"), r":3: instantiation 'skin' is listed twice"),
        (line("instantiations", "dermatologist; skin", "dermatologist;; skin"), r":2: a keyword is empty"),
        (line("instantiations", "neutral,", "neutral,cake"), r":5: as_it_is has keywords but no completions"),
        (line("instantiations", ",cardiologist", ","), r":3: heart has completions but no keywords"),
        (line("instantiations", "heart,", "medical,"), r":3: 'medical' is also the name of a family"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_prompt_set(write(tmp_path, **changed))
    assert "\n" not in str(error.value)


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    only = {
        "instantiations": "instantiation,family,keywords\nskin,medical,dermatologist\nas_it_is,neutral,\n",
        "topics": "".join(
            row + "\n"
            for row in CONTENT["topics.csv"].splitlines()
            if row.startswith(("instantiation", "skin", "as_"))
        ),
        "templates": "families,split,template\n*,seen,What about {topic}?\n*,unseen,Tell me about {topic}.\n",
        "completions": "\n".join(CONTENT["completions.csv"].splitlines()[:4])
        + "\nmedical,unwanted,fit,See nobody.\nmedical,unwanted,score,Ask nobody.\n",
    }
    with pytest.raises(ValueError, match=r"has 1 instantiations with completions, expected at least two"):
        read_prompt_set(write(tmp_path, **only))


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "topics.csv").write_bytes(b"skin,train\n\xff\n")
    with pytest.raises(ValueError, match=r"topics\.csv:2: not UTF-8"):
        read_prompt_set(tmp_path)
    (tmp_path / "topics.csv").unlink()
    with pytest.raises(ValueError, match=r"topics\.csv cannot be read: No such file"):
        read_prompt_set(tmp_path)
    with pytest.raises(ValueError, match="there is no prompt set absent; give a folder"):
        find_prompt_set("absent")


def test_the_older_text_files_are_refused_with_advice(tmp_path: Path) -> None:
    (write(tmp_path) / "topics.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"has \.txt files of an older version; write them as instantiations\.csv"
    ):
        read_prompt_set(tmp_path)
