"""Read sets of prompts that are steered in different directions.

A prompt set is a folder with four CSV files:

    instantiations.csv   instantiation,family,keywords         a direction to steer to; without completions
                                                               it is neutral: its prompts are not steered
    topics.csv           instantiation,split,topic,statement   "a rash" and "I have a rash.", in one split
    templates.csv        families,split,template               "What about {topic}?", seen in training or not
    completions.csv      for,side,use,completion               an answer for an instantiation or a family,
                                                               wanted or unwanted, to fit or to score

Semicolons separate keywords and families; `*` means all families. Every topic is put into every template of
its family. Only the test split uses unseen templates.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from datamodules.prompts.records import Record, read_records

Split = Literal["train", "validation", "test"]
Seen = Literal["seen", "unseen"]
Side = Literal["wanted", "unwanted"]
Use = Literal["fit", "score"]

COLUMNS = {
    "instantiations.csv": ("instantiation", "family", "keywords"),
    "topics.csv": ("instantiation", "split", "topic", "statement"),
    "templates.csv": ("families", "split", "template"),
    "completions.csv": ("for", "side", "use", "completion"),
}
"""The columns of each file."""
_NAME = re.compile(r"[a-z0-9_]+")
_PLACEHOLDERS = ("{topic}", "{statement}")


@dataclass(frozen=True, kw_only=True)
class Instantiation:
    """A direction to steer to, such as one specialist of a family of specialists."""

    name: str
    family: str
    keywords: tuple[str, ...]
    """An answer is right if it contains one of them. A keyword with `^` must start the answer."""
    is_neutral: bool  # whether its prompts are not steered

    def named_in(self, answer: str) -> bool:
        """Return whether an answer contains a keyword; case is ignored."""
        text = answer.strip().casefold()
        return any(
            text.startswith(key[1:].casefold()) if key.startswith("^") else key.casefold() in text
            for key in self.keywords
        )


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt and its labels."""

    text: str
    instantiation: str  # name of the instantiation to steer to
    family: str  # family of the instantiation
    topic: str  # topic of the prompt; all prompts of a topic are in one split
    split: Split  # split of the topic
    template: int  # index of the template in the set
    seen: bool  # whether training uses the template


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """A prompt set."""

    name: str  # name of the folder
    instantiations: dict[str, Instantiation]  # the instantiations by name, in the order of the file
    prompts: tuple[Prompt, ...]
    """All prompts. Training and validation prompts use seen templates, test prompts all templates."""
    _completions: dict[tuple[str, str, str], tuple[str, ...]] = field(repr=False)

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """Names of the instantiations of each family."""
        found: dict[str, list[str]] = {}
        for one in self.instantiations.values():
            found.setdefault(one.family, []).append(one.name)
        return {family: tuple(names) for family, names in found.items()}

    def completions(self, instantiation: str, side: Side, use: Use) -> tuple[str, ...]:
        """Return the completions of an instantiation, or those of its family if it has none of its own."""
        own = self._completions.get((instantiation, side, use))
        family = self.instantiations[instantiation].family
        return own or self._completions.get((family, side, use), ())

    def select(self, split: Split, *, seen: bool | None = None) -> list[Prompt]:
        """Return the prompts of a split, optionally only those with seen or with unseen templates."""
        return [p for p in self.prompts if p.split == split and (seen is None or p.seen == seen)]


def read_prompt_set(folder: Path | str) -> PromptSet:
    """Read and check a prompt set: a folder, or an included set by its name.

    Raises:
        ValueError: A file is missing, a row is wrong (the message names the file and the line), or there are
            fewer than two instantiations with completions.
    """
    folder = find_prompt_set(folder)
    if (folder / "topics.txt").exists():
        raise ValueError(f"{folder} has .txt files of an older version; write them as {', '.join(COLUMNS)}")
    rows = {
        name: read_records(folder / name, columns, optional=["keywords"]) for name, columns in COLUMNS.items()
    }
    families = _families(rows["instantiations.csv"])
    completions = _completions(rows["completions.csv"], {*families, *families.values()})
    instantiations = _instantiations(rows["instantiations.csv"], {owner for owner, _, _ in completions})
    steered = [one.name for one in instantiations.values() if not one.is_neutral]
    if len(steered) < 2:
        raise ValueError(
            f"{folder / 'instantiations.csv'} has {len(steered)} instantiations with completions, expected "
            "at least two"
        )
    topics = _topics(rows["topics.csv"], instantiations, folder / "topics.csv")
    templates = _templates(rows["templates.csv"], set(families.values()), folder / "templates.csv")
    made = PromptSet(
        name=folder.name,
        instantiations=instantiations,
        prompts=tuple(_prompts(topics, templates, instantiations)),
        _completions=completions,
    )
    for name in steered:
        for side in get_args(Side):
            for use in get_args(Use):
                if not made.completions(name, side, use):
                    raise ValueError(
                        f"{folder / 'completions.csv'}: {name} has no {side} completion to {use}"
                    )
    return made


def find_prompt_set(folder: Path | str) -> Path:
    """Find a prompt set by folder, or by the name of an included set.

    Raises:
        ValueError: The set does not exist.
    """
    own = Path(__file__).parent
    for path in (Path(folder), own / str(folder)):
        if path.is_dir():
            return path
    known = sorted(path.parent.name for path in own.glob("*/topics.csv"))
    close = difflib.get_close_matches(str(folder)[:100], known, n=1)
    near = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(
        f"there is no prompt set {folder}{near}; give a folder, or one of {', '.join(known) or 'none'}"
    )


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")] if text else []


def _families(rows: list[Record]) -> dict[str, str]:
    """Return the family of each instantiation, after checking the names."""
    found: dict[str, str] = {}
    for row in rows:
        name, family, _ = row.values
        for kind, value in (("instantiation", name), ("family", family)):
            if not _NAME.fullmatch(value):
                raise row.error(f"{kind} {value!r}: a name consists of lower-case letters, digits and _")
        if name in found:
            raise row.error(f"instantiation {name!r} is listed twice")
        found[name] = family
    for row in rows:
        name = row.values[0]
        if any(family == name and other != name for other, family in found.items()):
            raise row.error(f"{name!r} is also the name of a family with other members; rename one of them")
    return found


def _instantiations(rows: list[Record], owners: set[str]) -> dict[str, Instantiation]:
    """Build the instantiations; those without completions in `owners` are neutral."""
    found = {}
    for row in rows:
        name, family, text = row.values
        keywords = _split_list(text)
        if not all(word.strip("^") for word in keywords):
            raise row.error("a keyword is empty")
        is_neutral = not {name, family} & owners
        if is_neutral and keywords:
            raise row.error(f"{name} has keywords but no completions; a neutral instantiation has neither")
        if not is_neutral and not keywords:
            raise row.error(f"{name} has completions but no keywords; keywords identify a right answer")
        found[name] = Instantiation(name=name, family=family, keywords=tuple(keywords), is_neutral=is_neutral)
    return found


def _topics(
    rows: list[Record], known: dict[str, Instantiation], path: Path
) -> list[tuple[str, Split, str, str]]:
    found: list[tuple[str, Split, str, str]] = []
    lines: dict[str, int] = {}
    for row in rows:
        name, split, topic, statement = row.values
        if name not in known:
            raise row.error(f"unknown instantiation {name!r}, allowed: {', '.join(known)}")
        row.check_choice("split", split, Split)
        if topic.casefold() in lines:
            raise row.error(f"the topic {topic!r} is already on line {lines[topic.casefold()]}")
        lines[topic.casefold()] = row.line
        found.append((name, split, topic, statement))  # type: ignore[arg-type]
    for name in known:
        for split in get_args(Split):
            if not any(topic[:2] == (name, split) for topic in found):
                raise ValueError(f"{path}: {name} has no topic for {split}")
    return found


def _templates(rows: list[Record], families: set[str], path: Path) -> list[tuple[frozenset[str], Seen, str]]:
    found: list[tuple[frozenset[str], Seen, str]] = []
    lines: dict[str, int] = {}
    for row in rows:
        wanted, split, template = row.values
        chosen = families if wanted == "*" else set(_split_list(wanted))
        if unknown := sorted(chosen - families):
            raise row.error(f"unknown family {unknown[0]!r}, allowed: *, {', '.join(sorted(families))}")
        row.check_choice("split", split, Seen)
        if sum(template.count(place) for place in _PLACEHOLDERS) != 1:
            raise row.error("a template contains {topic} or {statement} exactly once")
        if re.search(r"[{}]", template.replace("{topic}", "").replace("{statement}", "")):
            raise row.error("a template contains no braces except {topic} or {statement}")
        if template in lines:
            raise row.error(f"the template is already on line {lines[template]}")
        lines[template] = row.line
        found.append((frozenset(chosen), split, template))  # type: ignore[arg-type]
    for family in sorted(families):
        for split in get_args(Seen):
            if not any(family in chosen and split == other for chosen, other, _ in found):
                raise ValueError(f"{path}: the family {family} has no {split} template")
    return found


def _completions(rows: list[Record], owners: set[str]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        owner, side, use, text = row.values
        if owner not in owners:
            raise row.error(f"{owner!r} is neither an instantiation nor a family")
        row.check_choice("side", side, Side)
        row.check_choice("use", use, Use)
        if any(text in found.get((owner, side, other), []) for other in get_args(Use)):
            raise row.error(f"{owner} already has this {side} completion")
        found.setdefault((owner, side, use), []).append(text)
    return {key: tuple(texts) for key, texts in found.items()}


def _prompts(
    topics: list[tuple[str, Split, str, str]],
    templates: list[tuple[frozenset[str], Seen, str]],
    known: dict[str, Instantiation],
) -> Iterator[Prompt]:
    for name, split, topic, statement in topics:
        family = known[name].family
        for number, (families, seen, template) in enumerate(templates):
            if family in families and (seen == "seen" or split == "test"):
                text = template.replace("{topic}", topic).replace("{statement}", statement)
                yield Prompt(
                    text=text,
                    instantiation=name,
                    family=family,
                    topic=topic,
                    split=split,
                    template=number,
                    seen=seen == "seen",
                )
