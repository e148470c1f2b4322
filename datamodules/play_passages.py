"""Passages of Shakespeare's plays, labelled with the kind of play.

Anything that would give a play away is removed. Headings, speakers' names, stage directions and notes are not
spoken. Punctuation, capitals and line breaks come from editors and differ from play to play. Names occur in a
play and its sequel, so `NAME` may replace them.
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
"""Replacement for any name; other words have no capitals."""
PADDING = -1
"""Padding at the end of passages that are shorter than the longest."""

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
    """About a hundred consecutive words of a play."""

    play: str
    kind: str  # class to predict
    text: str  # the words, separated by spaces


class PlayPassagesDataModule(ResidentDataModule):
    """Shakespeare's plays cut into passages; all passages of a play are in the same split.

    Batches are `(tokens, kinds)`, on the device that the attached trainer trains on: int64 (B, T), padded at
    the end with −1 to the longest passage of the batch, and int64 (B,). `split` returns a whole split, padded
    to the longest passage of all.
    """

    info: LabelledTextInfo

    def __init__(self, config: PlayPassagesConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._passages: dict[str, list[Passage]] = {}
        self._tokenizer: Tokenizer | None = None

    def read(self) -> list[Play]:
        """Read the spoken text of the plays."""
        return list(read_plays(fetch("shakespeare", self.config.root), text_of=spoken_text))

    def prepare_data(self) -> None:
        """Download the plays; Lightning calls this in one process per machine.

        Raises:
            AssetError: The plays can't be downloaded.
        """
        fetch("shakespeare", self.config.root)

    def setup(self, stage: str | None = None) -> None:
        """Cut, split and encode the plays; further calls do nothing.

        Raises:
            AssetError: The plays can't be downloaded.
            ValueError: There are too few plays for the splits.
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
        self._tokenizer = self.given_tokenizer or make_tokenizer(
            self.config.tokenizer, everything, (0, len(training))
        )
        special = bool(self.config.tokenizer.special_tokens)
        ids = {
            name: [self._tokenizer.encode(text, allow_special=special) for text in texts[name]]
            for name in PARTS
        }
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
        """The tokenizer of the passages."""
        self.setup()
        assert self._tokenizer is not None
        return self._tokenizer

    def passages(self, name: str) -> list[Passage]:
        """Return the passages of a split, in the order of `split`."""
        self.setup()
        return self._passages[name]

    def texts(self, name: str) -> list[str]:
        """Return the texts of a split's passages."""
        return [passage.text for passage in self.passages(name)]

    def transform(self, part: Part) -> Transform:
        """Cut the padding of each batch."""
        return without_common_padding


def spoken_words(text: str) -> str:
    """Return the words of a text as passages have them: lower case, without punctuation and numbers."""
    return " ".join(word.lower() for word in _WORD.findall(text))


def kind_of(play: Play, kinds: str) -> str:
    """Return the class of a play.

    Args:
        play: The play.
        kinds: `"folders"` for the source's folders, or `"folio"` for the First Folio's three sections. The
            Folio has *Cymbeline* and *Troilus and Cressida* among the tragedies. It lacks *Pericles*, which
            counts as a comedy like the other romances, and *Edward III*, which counts as a history.
    """
    return play.genre if kinds == "folders" else _FOLIO_OTHERWISE.get(play.name, _FOLIO[play.genre])


def parts_of(kinds: Sequence[str], config: PlayPassagesConfig) -> list[str]:
    """Return the split of each play: one fold is the test split, some other plays are the validation split.

    Raises:
        ValueError: There are too few plays.
    """
    test = config.fold % config.folds
    in_test = [fold == test for fold in balanced_folds(kinds, config.folds, seed=config.split_seed)]
    others = [kind for kind, held_out in zip(kinds, in_test, strict=True) if not held_out]
    validates = iter(balanced_folds(others, config.val_parts, seed=config.split_seed))
    return ["test" if held_out else "train" if next(validates) else "val" for held_out in in_test]


def uncapitalised(words: Iterable[str]) -> set[str]:
    """Return the words that are written without a capital."""
    return {word for word in words if word[0].islower()}


def is_name(word: str, common: Set[str]) -> bool:
    """Tell whether a word has a capital here and is never written without one.

    Words of one letter before any apostrophe, such as I, I'll and O, are not names.

    Args:
        word: The word as written.
        common: Words written without a capital in a training play or in the same play.
    """
    if word[0].islower() or word.lower() in common:
        return False
    return len(re.split(r"['’-]", word, maxsplit=1)[0]) > 1


def cut_passages(words: Sequence[str], length: int) -> list[str]:
    """Cut a text into passages of about `length` words; their lengths differ by at most one word.

    Every word is in exactly one passage. A text shorter than `length` is one passage.
    """
    count = max(1, round(len(words) / length))
    bounds = [i * len(words) // count for i in range(count + 1)]
    return [" ".join(words[start:stop]) for start, stop in pairwise(bounds)]


def padded(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """Return rows of ids as one tensor, int64 (N, `length`), padded at the end with −1."""
    tokens = torch.full((len(rows), length), PADDING)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
    return tokens


def without_common_padding(batch: tuple[Tensor, ...], _: torch.Generator) -> tuple[Tensor, ...]:
    """Shorten the passages of a batch to the longest of them."""
    tokens, kinds = batch
    longest = int((tokens != PADDING).sum(dim=1).max())
    return tokens[:, :longest], kinds
