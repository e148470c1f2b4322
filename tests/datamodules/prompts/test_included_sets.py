"""The prompt sets that come with the suite: their numbers and splits, and that each prompt is in order."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from datamodules.prompts.prompt_sets import COLUMNS, Prompt, PromptSet, find_prompt_set, read_prompt_set

SPLITS = ("train", "validation", "test")
SETS = ("referral", "yes_no")
SPECIALISTS = {"medical": 12, "legal": 9, "money": 8}
TOPICS = {
    "decline": (24, 6, 9),
    "unchanged": (30, 8, 10),
    "kitchen_yes": (100, 25, 35),
    "kitchen_no": (100, 25, 35),
}
"""Of each split; every specialist has 12, 2 and 3."""
TEMPLATES = {"referral": (10, 6), "yes_no": (8, 4)}
"""Seen and unseen ones of each family."""


@pytest.fixture(scope="module", params=SETS)
def prompts(request: pytest.FixtureRequest) -> PromptSet:
    return read_prompt_set(request.param)


@pytest.fixture(scope="module")
def referral() -> PromptSet:
    return read_prompt_set("referral")


@pytest.fixture(scope="module")
def yes_no() -> PromptSet:
    return read_prompt_set("yes_no")


def records(name: str, file: str) -> Iterator[list[str]]:
    """The fields of each row, read without the suite's reader."""
    with (find_prompt_set(name) / file).open(encoding="utf-8", newline="") as rows:
        yield from list(csv.reader(rows))[1:]


def frames(prompts: PromptSet, name: str) -> list[str]:
    """An instantiation's wanted completions with a blank for whom they name."""
    who = re.compile(rf"\ban? {re.escape(prompts.instantiations[name].keywords[0])}\b")
    return [
        who.sub("…", text) for use in ("fit", "score") for text in prompts.completions(name, "wanted", use)
    ]


def by_template(prompts: PromptSet) -> list[list[Prompt]]:
    """The prompts of each template."""
    groups: dict[int, list[Prompt]] = {}
    for prompt in prompts.prompts:
        groups.setdefault(prompt.template, []).append(prompt)
    return list(groups.values())


def test_referral_has_its_families(referral: PromptSet) -> None:
    sizes = {family: len(names) for family, names in referral.families.items()}
    assert sizes == {**SPECIALISTS, "harmful": 1, "neutral": 1}
    neutral = [name for name, one in referral.instantiations.items() if one.is_neutral]
    assert neutral == ["unchanged"]


def test_there_are_enough_prompts(referral: PromptSet, yes_no: PromptSet) -> None:
    assert len(referral.prompts) == 6_436
    assert len({p.topic for p in referral.prompts}) == 580
    assert len({p.template for p in referral.prompts}) == 41
    assert len(referral.select("test")) == 1_696
    assert len(yes_no.prompts) == 3_264
    assert len({p.topic for p in yes_no.prompts}) == 368


def test_each_instantiation_has_its_topics_in_each_split(prompts: PromptSet) -> None:
    counts = Counter((name, split) for name, split, _, _ in records(prompts.name, "topics.csv"))
    for name in prompts.instantiations:
        assert tuple(counts[name, split] for split in SPLITS) == TOPICS.get(name, (12, 2, 3)), name


def test_each_family_has_as_many_templates_as_the_others(prompts: PromptSet) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for families, split, _ in records(prompts.name, "templates.csv"):
        for family in prompts.families if families == "*" else families.split("; "):
            counts[family, split] += 1
    seen, unseen = TEMPLATES[prompts.name]
    assert counts == {(f, s): n for f in prompts.families for s, n in (("seen", seen), ("unseen", unseen))}


def test_templates_do_not_tell_the_family(referral: PromptSet) -> None:
    users = [{p.family for p in group} for group in by_template(referral)]
    for family in referral.families:
        own = [families for families in users if family in families]
        assert sum(len(families) > 1 for families in own) >= 0.6 * len(own)


def test_no_text_is_there_twice(prompts: PromptSet) -> None:
    texts = Counter(prompt.text.casefold() for prompt in prompts.prompts)
    assert texts.most_common(1)[0][1] == 1
    statements = Counter(statement.casefold() for *_, statement in records(prompts.name, "topics.csv"))
    assert statements.most_common(1)[0][1] == 1


def test_no_topic_paraphrases_one_of_another_split(prompts: PromptSet) -> None:
    """As far as their words tell: less than half of them in common."""
    common = re.compile(r"(?:an?|the|my|our|i|i'm|i've|is|are|was|has|have|to|of|in|on|for|and|it|with)")
    topics = [
        (name, split, topic, {w for w in re.findall(r"[\w'-]+", topic.casefold()) if not common.fullmatch(w)})
        for name, split, topic, _ in records(prompts.name, "topics.csv")
    ]
    for (one, split, topic, words), (two, other, again, others) in combinations(topics, 2):
        if one == two and split != other:
            assert len(words & others) <= len(words | others) / 2, f"{topic} | {again}"


def test_each_prompt_is_written_out(prompts: PromptSet) -> None:
    for prompt in prompts.prompts:
        assert not re.search(r"[{}|#_\t]|  |\s$|^\s|\.\.|[.?!][.,]|[?!.]{2}", prompt.text), prompt.text
        assert prompt.text[-1] in ".?", prompt.text
        assert prompt.text[0].isupper() or prompt.text.startswith("hi, "), prompt.text
        assert 4 <= len(prompt.text.split()) <= 50, prompt.text


def test_topics_stand_in_a_sentence_and_statements_alone(prompts: PromptSet) -> None:
    for *_, topic, statement in records(prompts.name, "topics.csv"):
        assert re.match(r"(?!(A|An|The|My|Our|I) )\w", topic), topic
        assert topic[-1].isalpha(), topic
        assert statement[0].isupper(), statement
        assert statement.endswith("."), statement
        assert "?" not in statement, statement


def test_articles_fit_the_words_behind_them(prompts: PromptSet) -> None:
    texts = [prompt.text for prompt in prompts.prompts]
    texts += [completion for *_, completion in records(prompts.name, "completions.csv")]
    sounds_consonant = re.compile(r"(uni|use|uku|one\b|euro)", re.IGNORECASE)
    sounds_vowel = re.compile(r"(hour|honest|MP\b|X-ray)", re.IGNORECASE)
    for text in texts:
        for article, word in re.findall(r"\b([Aa]n?) (\w[\w-]*)", text):
            vowel = word[0].lower() in "aeiou" and not sounds_consonant.match(word)
            assert (article.lower() == "an") == bool(vowel or sounds_vowel.match(word)), text


def test_spelling_is_british(prompts: PromptSet) -> None:
    american = re.compile(
        r"\b(colou?rize|color|favorite|neighbor|center|gray|mom|\w+(al|an|or|it)ize[ds]?|analyze|labor|traveling"
        r"|apartment|cell phone|gotten|check up on|lawn mower|tire|tires|airplane|pediatrician|counselor)\b",
        re.IGNORECASE,
    )
    texts = {prompt.text for prompt in prompts.prompts}
    texts |= {completion for *_, completion in records(prompts.name, "completions.csv")}
    assert not [text for text in texts if american.search(text)]


def test_completions_come_in_paraphrases_some_of_them_held_out(prompts: PromptSet) -> None:
    for name, one in prompts.instantiations.items():
        for side in ("wanted", "unwanted"):
            fit, score = (prompts.completions(name, side, use) for use in ("fit", "score"))
            assert (len(fit), len(score)) == ((0, 0) if one.is_neutral else (6, 3))
            assert len({text.casefold() for text in fit + score}) == len(fit) + len(score)
            assert all(re.fullmatch(r"[A-Z][\w' ,]*\.", text) for text in fit + score)


def test_both_sides_are_about_as_long(prompts: PromptSet) -> None:
    for name, one in prompts.instantiations.items():
        if not one.is_neutral:
            wanted, unwanted = (
                sum(len(text.split()) for text in prompts.completions(name, side, "score"))
                for side in ("wanted", "unwanted")
            )
            assert 0.6 <= wanted / unwanted <= 1.6, name


def test_keywords_know_the_own_completions_and_no_others(prompts: PromptSet) -> None:
    steered = [one for one in prompts.instantiations.values() if not one.is_neutral]
    for one in steered:
        for other in steered:
            for use in ("fit", "score"):
                named = [one.named_in(text) for text in prompts.completions(other.name, "wanted", use)]
                assert all(named) if one is other else not any(named), (one.name, other.name)
        for use in ("fit", "score"):
            assert not any(one.named_in(text) for text in prompts.completions(one.name, "unwanted", use))


def test_no_prompt_names_the_specialist(referral: PromptSet) -> None:
    for prompt in referral.prompts:
        assert not any(one.named_in(prompt.text) for one in referral.instantiations.values()), prompt.text


def test_specialists_differ_in_their_name_alone(referral: PromptSet) -> None:
    """So that which of them is likelier compares like with like."""
    names = [name for family in SPECIALISTS for name in referral.families[family]]
    first = frames(referral, names[0])
    assert all(frame.count("…") == 1 for frame in first)
    assert all(frames(referral, name) == first for name in names)


def test_yes_and_no_mirror_each_other(yes_no: PromptSet) -> None:
    """So that the vectors of the two cancel: as many of each, asked alike, answered by turns."""
    yes, no = yes_no.families["kitchen"]
    for use in ("fit", "score"):
        assert yes_no.completions(yes, "wanted", use) == yes_no.completions(no, "unwanted", use)
        assert yes_no.completions(yes, "unwanted", use) == yes_no.completions(no, "wanted", use)
    for split in SPLITS:
        asked = Counter((p.instantiation, p.template) for p in yes_no.select(split) if p.family == "kitchen")
        assert len(set(asked.values())) == 1


def test_nothing_else_lies_beside_the_files(prompts: PromptSet) -> None:
    folder = find_prompt_set(prompts.name)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*COLUMNS, "README.md"])
    for file in COLUMNS:
        text = (folder / file).read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert not re.search(r"[ \t]\n|\t|\r|[“”‘’–—]", text)
