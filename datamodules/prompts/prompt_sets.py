"""Prompts that should each be steered their own way: small readable files, read with file and line in errors.

A prompt set is a folder of four UTF-8 files. A record is a line, its fields separated by `|`; empty lines
and lines that start with `#` are skipped.

    instantiations.txt   name | family | keywords            what to steer towards; those without completions
                                                             are neutral and to be left as they are
    topics.txt           instantiation | split | topic | statement
                                                             "a rash", "I have a rash."; three splits
    templates.txt        families | split | template         "What about {topic}?"; seen or unseen
    completions.txt      for | side | use | completion       for an instantiation or a family; wanted or
                                                             unwanted; fit (makes vectors) or score (held out)

A prompt is a topic in a template of its family.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from datamodules.prompts.records import Record, read_records

Split = Literal["train", "validation", "test"]
Seen = Literal["seen", "unseen"]
Side = Literal["wanted", "unwanted"]
Use = Literal["fit", "score"]

FILES = ("instantiations.txt", "topics.txt", "templates.txt", "completions.txt")
_NAME = re.compile(r"[a-z0-9_]+")
_PLACEHOLDERS = ("{topic}", "{statement}")


@dataclass(frozen=True, kw_only=True)
class Instantiation:
    """What a prompt is to be steered towards, such as one specialist among a family of them.

    Attributes:
        name: Its own.
        family: Of those that are alike in kind.
        keywords: Any of which an answer has that went the right way; one that begins with `^` must stand at
            the answer's start.
        is_neutral: Prompts of it are to be left as they are.
    """

    name: str
    family: str
    keywords: tuple[str, ...]
    is_neutral: bool

    def named_in(self, answer: str) -> bool:
        """Whether an answer has one of the keywords, in whatever case."""
        text = answer.strip().casefold()
        return any(
            text.startswith(key[1:].casefold()) if key.startswith("^") else key.casefold() in text
            for key in self.keywords
        )


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question, and what belongs to it.

    Attributes:
        text: What the person says.
        instantiation: Name of what it is to be steered towards.
        family: That one's.
        topic: What it is about; no topic is in two splits.
        split: The topic's.
        template: Its index among the templates of the set.
        seen: Whether training has prompts of this template.
    """

    text: str
    instantiation: str
    family: str
    topic: str
    split: Split
    template: int
    seen: bool


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """A read prompt set.

    Attributes:
        name: The folder's.
        instantiations: By name, in the file's order.
        prompts: Training and validation in seen templates; test in all of them.
        sha256: Of the files.
    """

    name: str
    instantiations: dict[str, Instantiation]
    prompts: tuple[Prompt, ...]
    sha256: str
    _completions: dict[tuple[str, str, str], tuple[str, ...]] = field(repr=False)

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The names of each family's instantiations."""
        found: dict[str, list[str]] = {}
        for one in self.instantiations.values():
            found.setdefault(one.family, []).append(one.name)
        return {family: tuple(names) for family, names in found.items()}

    def completions(self, instantiation: str, side: Side, use: Use) -> tuple[str, ...]:
        """Ways to say it: the instantiation's own, or else its family's; none for a neutral one."""
        own = self._completions.get((instantiation, side, use))
        family = self.instantiations[instantiation].family
        return own or self._completions.get((family, side, use), ())

    def select(self, split: Split, *, seen: bool | None = None) -> list[Prompt]:
        """The prompts of a split, in seen or unseen templates, or in both."""
        return [p for p in self.prompts if p.split == split and (seen is None or p.seen == seen)]


def read_prompt_set(folder: Path | str) -> PromptSet:
    """Read and check a prompt set.

    Args:
        folder: That holds the four files; or the name of one that comes with the suite.

    Raises:
        ValueError: A file is missing or empty; a line, which is named, is malformed or contradicts another;
            there is nothing to tell apart.
    """
    folder = find_prompt_set(folder)
    lines = {name: list(read_records(folder / name)) for name in FILES}
    listed = _instantiations(lines["instantiations.txt"])
    families = {family for family, _ in listed.values()}
    completions = _completions(lines["completions.txt"], set(listed), families)
    instantiations = {}
    for name, (family, keywords) in listed.items():
        is_neutral = not any(owner in (name, family) for owner, _, _ in completions)
        if is_neutral == bool(keywords):
            line = next(line for line in lines["instantiations.txt"] if line.fields[0] == name)
            raise line.error(
                f"{name} has keywords but no completions: a neutral one has neither"
                if is_neutral
                else f"{name} has completions, so it needs keywords to know a right answer by"
            )
        instantiations[name] = Instantiation(
            name=name, family=family, keywords=keywords, is_neutral=is_neutral
        )
    steered = [one for one in instantiations.values() if not one.is_neutral]
    if len(steered) < 2:
        raise ValueError(
            f"{folder / FILES[0]} has {len(steered)} instantiations with completions; steering needs at "
            "least two to tell apart"
        )
    topics = _topics(lines["topics.txt"], instantiations, folder / "topics.txt")
    templates = _templates(lines["templates.txt"], families, folder / "templates.txt")
    made = PromptSet(
        name=folder.name,
        instantiations=instantiations,
        prompts=tuple(_prompts(topics, templates, instantiations)),
        sha256=_sha256(folder),
        _completions=completions,
    )
    _check_completions(made, steered, folder / "completions.txt")
    return made


def find_prompt_set(folder: Path | str) -> Path:
    """A folder as given, or the one of that name that comes with the suite.

    Raises:
        ValueError: There is neither.
    """
    own = Path(__file__).parent
    for path in (Path(folder), own / str(folder)):
        if path.is_dir():
            return path
    known = sorted(path.name for path in own.iterdir() if path.is_dir()) if own.is_dir() else []
    raise ValueError(
        f"there is no prompt set {folder}; give a folder, or one of {', '.join(known) or 'none'}"
    )


def _instantiations(lines: list[Record]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Family and keywords by name."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for line in lines:
        name, family, keywords = line.expect("instantiation", "family", "keywords", may_be_empty=["keywords"])
        for kind, value in (("instantiation", name), ("family", family)):
            if not _NAME.fullmatch(value):
                raise line.error(f"{kind} {value!r}: a name has lower-case letters, digits and _")
        if name in found:
            raise line.error(f"instantiation {name!r} is there already")
        words = [word.strip() for word in keywords.split(",")] if keywords else []
        if not all(word.strip("^") for word in words):
            raise line.error("a keyword is empty")
        found[name] = (family, tuple(words))
    families: dict[str, list[str]] = {}
    for name, (family, _) in found.items():
        families.setdefault(family, []).append(name)
    for line in lines:
        name = line.fields[0]
        if families.get(name, [name]) != [name]:
            raise line.error(f"{name!r} is also the name of a family of several; rename one of them")
    return found


def _topics(
    lines: list[Record], known: dict[str, Instantiation], path: Path
) -> list[tuple[str, Split, str, str]]:
    found: list[tuple[str, Split, str, str]] = []
    seen: dict[str, int] = {}
    for line in lines:
        name, split, topic, statement = line.expect("instantiation", "split", "topic", "statement")
        if name not in known:
            raise line.error(f"unknown instantiation {name!r}, allowed: {', '.join(known)}")
        line.choose("split", split, Split)
        if topic.casefold() in seen:
            raise line.error(f"the topic {topic!r} is on line {seen[topic.casefold()]} already")
        seen[topic.casefold()] = line.number
        found.append((name, split, topic, statement))  # type: ignore[arg-type]
    for name in known:
        for split in get_args(Split):
            if not any(topic[:2] == (name, split) for topic in found):
                raise ValueError(f"{path}: {name} has no topic for {split}")
    return found


def _templates(lines: list[Record], families: set[str], path: Path) -> list[tuple[frozenset[str], Seen, str]]:
    found: list[tuple[frozenset[str], Seen, str]] = []
    seen: dict[str, int] = {}
    for line in lines:
        wanted, split, template = line.expect("families", "split", "template")
        chosen = families if wanted == "*" else {family.strip() for family in wanted.split(",")}
        if unknown := sorted(chosen - families):
            raise line.error(f"unknown family {unknown[0]!r}, allowed: *, {', '.join(sorted(families))}")
        line.choose("split", split, Seen)
        if sum(template.count(place) for place in _PLACEHOLDERS) != 1:
            raise line.error("a template has {topic} or {statement} in it, once")
        if re.search(r"[{}]", template.replace("{topic}", "").replace("{statement}", "")):
            raise line.error("a template has no braces but those of {topic} or {statement}")
        if template in seen:
            raise line.error(f"the template is on line {seen[template]} already")
        seen[template] = line.number
        found.append((frozenset(chosen), split, template))  # type: ignore[arg-type]
    for family in sorted(families):
        for split in get_args(Seen):
            if not any(family in chosen and split == other for chosen, other, _ in found):
                raise ValueError(f"{path}: the family {family} has no {split} template")
    return found


def _completions(
    lines: list[Record], names: set[str], families: set[str]
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for line in lines:
        owner, side, use, text = line.expect("for", "side", "use", "completion")
        if owner not in names | families:
            raise line.error(f"{owner!r} is neither an instantiation nor a family")
        line.choose("side", side, Side)
        line.choose("use", use, Use)
        for other in get_args(Use):
            if text in found.get((owner, side, other), []):
                raise line.error(f"{owner} has this {side} completion already")
        found.setdefault((owner, side, use), []).append(text)
    return {key: tuple(texts) for key, texts in found.items()}


def _check_completions(made: PromptSet, steered: Sequence[Instantiation], path: Path) -> None:
    for one in steered:
        for side in get_args(Side):
            for use in get_args(Use):
                if not made.completions(one.name, side, use):
                    raise ValueError(f"{path}: {one.name} has no {side} completion to {use}")


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


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        content = (folder / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
