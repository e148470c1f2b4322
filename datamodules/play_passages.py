"""Passages of Shakespeare's plays, labelled with the kind of play they are from.

What would give a play away is left out. Headings, speakers' names, stage directions and notes are not spoken.
Punctuation, capitals and the breaks of lines are the editors', who differ from play to play. Names tell a
sequel by its prequel, which is another play: `NAME` may stand for them.
"""

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from datamodules.assets.fetch import fetch
from datamodules.base import PARTS, Part, ResidentDataModule
from datamodules.configs.play_passages import PlayPassagesConfig
from datamodules.info import LabelledTextInfo
from datamodules.loading.folds import balanced_folds
from datamodules.loading.resident import Transform
from datamodules.text.shakespeare_plays import Play, read_plays, spoken_text
from datamodules.text.text_source import TextInMemory
from datamodules.text.token_preparation import make_tokenizer
from datamodules.tokenizers import Tokenizer

NAME = "NAME"
"""Stands for any name; other words have no capitals."""
PADDING = -1
"""Behind the tokens of a passage that is shorter than the longest."""

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_FOLIO = {
    "comedies": "comedy",
    "problems": "comedy",
    "romances": "comedy",
    "histories": "history",
    "roman": "tragedy",
    "tragedies": "tragedy",
}
_FOLIO_OTHERWISE = {"cymbeline": "tragedy", "troilus-and-cressida": "tragedy"}


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Some hundred words in a row of one play.

    Attributes:
        play: The play's name.
        kind: What it is to be recognised as.
        text: The words, with a space between two.
    """

    play: str
    kind: str
    text: str


class PlayPassagesDataModule(ResidentDataModule):
    """Shakespeare's plays cut into passages; no play is in two parts.

    Batches are `(tokens, kinds)`: int64 (B, T), padded behind with −1 to the longest of the batch, and
    int64 (B,), on the device that the attached trainer trains on. `split` gives all of a part, padded
    to the longest passage there is.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed; decides the order of the training passages.
    """

    info: LabelledTextInfo

    def __init__(self, config: PlayPassagesConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._passages: dict[str, list[Passage]] = {}
        self._tokenizer: Tokenizer | None = None

    def read(self) -> list[Play]:
        """The plays, their text what is spoken."""
        return list(read_plays(fetch("shakespeare", self.config.root), text_of=spoken_text))

    def prepare_data(self) -> None:
        """Fetch the plays; Lightning calls it on one process of each machine.

        Raises:
            AssetError: They can't be had.
        """
        fetch("shakespeare", self.config.root)

    def setup(self, stage: str | None = None) -> None:
        """Cut, part and encode the plays; a second call changes nothing.

        Raises:
            AssetError: The plays can't be had.
            ValueError: There are too few plays for so many parts.
        """
        if self._info is not None:
            return
        config, plays = self.config, self.read()
        words = [_WORD.findall(play.text) for play in plays]
        kinds = [kind_of(play, config.kinds) for play in plays]
        parts = parts_of(kinds, config)
        common = uncapitalised(
            w for own, part in zip(words, parts, strict=True) if part == "train" for w in own
        )
        self._passages = {name: [] for name in PARTS}
        for play, kind, own, part in zip(plays, kinds, words, parts, strict=True):
            known = common | uncapitalised(own)
            masked = config.names == "masked"
            shown = [NAME if masked and is_name(word, known) else word.lower() for word in own]
            texts = cut_passages(shown, config.passage_words)
            self._passages[part] += [Passage(play=play.name, kind=kind, text=text) for text in texts]
        self._encode(tuple(sorted(set(kinds))))

    def _encode(self, class_names: tuple[str, ...]) -> None:
        texts = {name: [passage.text for passage in self._passages[name]] for name in PARTS}
        training = "\n".join(texts["train"])
        everything = TextInMemory("\n".join([training, *texts["val"], *texts["test"]]))
        self._tokenizer = make_tokenizer(self.config.tokenizer, everything, (0, len(training)))
        ids = {name: [self._tokenizer.encode(text) for text in texts[name]] for name in PARTS}
        longest = max(len(row) for rows in ids.values() for row in rows)
        for name in PARTS:
            kinds = torch.tensor([class_names.index(passage.kind) for passage in self._passages[name]])
            self._parts[name] = padded(ids[name], longest), kinds
        self._info = LabelledTextInfo(
            class_names=class_names,
            vocab_size=self._tokenizer.vocab_size,
            context_length=longest,
            tokenizer=self._tokenizer.to_dict(),
            train_size=len(texts["train"]),
            val_size=len(texts["val"]),
            test_size=len(texts["test"]),
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """What made the tokens."""
        self.setup()
        assert self._tokenizer is not None
        return self._tokenizer

    def passages(self, name: str) -> list[Passage]:
        """A part's passages, in the order in which `split` has them.

        Args:
            name: `"train"`, `"val"` or `"test"`.
        """
        self.setup()
        return self._passages[name]

    def texts(self, name: str) -> list[str]:
        """The words of a part's passages."""
        return [passage.text for passage in self.passages(name)]

    def transform(self, part: Part) -> Transform:
        return without_common_padding


def kind_of(play: Play, kinds: str) -> str:
    """What a play is to be recognised as.

    Args:
        play: The play.
        kinds: `"folders"` for the source's folders; `"folio"` for the First Folio's three sections, which
            has *Cymbeline* and *Troilus and Cressida* among the tragedies. *Pericles* and *Edward III*, which
            it leaves out, count as a comedy, as the other romances do, and as a history.
    """
    return play.genre if kinds == "folders" else _FOLIO_OTHERWISE.get(play.name, _FOLIO[play.genre])


def parts_of(kinds: Sequence[str], config: PlayPassagesConfig) -> list[str]:
    """The part that each play belongs to: the fold is the test, some of the others are the validation.

    Raises:
        ValueError: There are too few plays.
    """
    test = config.fold % config.folds
    in_test = [fold == test for fold in balanced_folds(kinds, config.folds, seed=config.split_seed)]
    others = [kind for kind, held_out in zip(kinds, in_test, strict=True) if not held_out]
    validates = iter(balanced_folds(others, config.val_parts, seed=config.split_seed))
    return ["test" if held_out else "train" if next(validates) else "val" for held_out in in_test]


def uncapitalised(words: Iterable[str]) -> set[str]:
    """Those that are written without a capital."""
    return {word for word in words if word[0].islower()}


def is_name(word: str, common: Set[str]) -> bool:
    """Whether a word has a capital and is nowhere written without it.

    Words of one letter before any apostrophe, such as I, I'll and O, are no names.

    Args:
        word: As it is written.
        common: Words that are written without a capital somewhere: in a training play, or in its own.
    """
    if word[0].islower() or word.lower() in common:
        return False
    return len(re.split(r"['’-]", word, maxsplit=1)[0]) > 1


def cut_passages(words: Sequence[str], length: int) -> list[str]:
    """Cut a text into passages of nearly `length` words, whose numbers differ by one at most.

    Every word is in one of them; a text shorter than that is one.
    """
    count = max(1, round(len(words) / length))
    bounds = [i * len(words) // count for i in range(count + 1)]
    return [" ".join(words[start:stop]) for start, stop in pairwise(bounds)]


def padded(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """Rows of ids as one tensor: int64 (N, `length`), padded behind with −1."""
    tokens = torch.full((len(rows), length), PADDING)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
    return tokens


def without_common_padding(batch: tuple[Tensor, ...], _: torch.Generator) -> tuple[Tensor, ...]:
    """The same passages, none longer than the longest among them."""
    tokens, kinds = batch
    longest = int((tokens != PADDING).sum(dim=1).max())
    return tokens[:, :longest], kinds
