"""Passages of the real plays: split by play, without names or layout, and reproducible."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.configs.play_passages import PlayPassagesConfig
from datamodules.configs.token_corpus import TokenizerConfig
from datamodules.play_passages import (
    NAME,
    PlayPassagesDataModule,
    cut_passages,
    is_name,
    kind_of,
    padded,
    parts_of,
    uncapitalised,
)
from datamodules.text.shakespeare_plays import Play
from datamodules.tokenizers import tokenizer_from_dict

CHARACTERS = TokenizerConfig(kind="character")


@pytest.fixture(scope="module")
def folds(data_root: Path) -> list[PlayPassagesDataModule]:
    made = []
    for fold in range(5):
        config = PlayPassagesConfig(
            root=str(data_root), fold=fold, tokenizer=TokenizerConfig(kind="bpe", vocab_size=600)
        )
        made.append(PlayPassagesDataModule(config))
        made[-1].setup()
    return made


def plays_of(data: PlayPassagesDataModule, name: str) -> set[str]:
    return {passage.play for passage in data.passages(name)}


@pytest.mark.network
@pytest.mark.slow
def test_folds_are_disjoint_by_play_and_test_every_play_once(folds: list[PlayPassagesDataModule]) -> None:
    tested: Counter[str] = Counter()
    for data in folds:
        train, val, test = (plays_of(data, name) for name in ("train", "val", "test"))
        assert not train & val
        assert not train & test
        assert not val & test
        assert len(train | val | test) == 38
        assert len(test) in (7, 8)
        assert len(val) in (5, 6)
        for name in ("train", "val", "test"):
            assert {p.kind for p in data.passages(name)} == {"comedy", "history", "tragedy"}
        tested.update(test)
    assert set(tested.values()) == {1}
    assert len(tested) == 38


@pytest.mark.network
def test_every_word_is_in_one_passage_of_its_play(folds: list[PlayPassagesDataModule]) -> None:
    data = folds[0]
    words = {play.name: re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", play.text) for play in data.read()}
    found: dict[str, list[str]] = {name: [] for name in words}
    for name in ("train", "val", "test"):
        for passage in data.passages(name):
            found[passage.play] += passage.text.split(" ")
            assert 98 <= len(passage.text.split(" ")) <= 102
    for name, own in words.items():
        assert len(found[name]) == len(own)
        assert all(f in (NAME, w.lower()) for f, w in zip(found[name], own, strict=True))


@pytest.mark.network
def test_tokens_are_the_passages_words_padded_behind(folds: list[PlayPassagesDataModule]) -> None:
    data = folds[1]
    longest = 0
    for name in ("train", "val", "test"):
        tokens, kinds = data.split(name)
        passages = data.passages(name)
        assert data.texts(name) == [passage.text for passage in passages]
        assert tokens.shape == (len(passages), data.info.context_length)
        for row, kind, passage in zip(tokens[::37], kinds[::37], passages[::37], strict=True):
            length = int((row >= 0).sum())
            assert bool((row[:length] >= 0).all())
            assert data.tokenizer.decode(row[:length].tolist()) == passage.text
            assert data.info.class_names[int(kind)] == passage.kind
        longest = max(longest, int((tokens >= 0).sum(1).max()))
    assert longest == data.info.context_length
    info = data.info
    assert info.class_names == ("comedy", "history", "tragedy")
    assert (info.train_size, info.val_size, info.test_size) == tuple(
        len(data.passages(name)) for name in ("train", "val", "test")
    )
    again = tokenizer_from_dict(info.tokenizer)
    assert again.encode("to be or not to be") == data.tokenizer.encode("to be or not to be")
    assert info.vocab_size == data.tokenizer.vocab_size == 600


@pytest.mark.network
@pytest.mark.slow
def test_the_vocabulary_is_learned_from_the_training_plays_alone(data_root: Path) -> None:
    """The words of the test plays have no influence."""
    config = PlayPassagesConfig(root=str(data_root), tokenizer=TokenizerConfig(kind="bpe", vocab_size=600))
    tested = {p.play for p in PlayPassagesDataModule(config).passages("test")}

    class Altered(PlayPassagesDataModule):
        def read(self) -> list[Play]:
            return [
                Play(name=p.name, genre=p.genre, text="qqq www " * 500 if p.name in tested else p.text)
                for p in super().read()
            ]

    assert Altered(config).info.tokenizer == PlayPassagesDataModule(config).info.tokenizer


@pytest.mark.network
def test_the_clues_to_a_play_are_removed(folds: list[PlayPassagesDataModule]) -> None:
    text = " ".join(text for name in ("train", "val", "test") for text in folds[0].texts(name))
    words = Counter(text.split())
    assert not re.search(r"[^a-zA-Z'’\- é]", text.replace(NAME, "")), "letters, apostrophes and hyphens alone"
    assert all(word == NAME or not re.search("[A-Z]", word) for word in words)
    for absent in ("hamlet", "falstaff", "rome", "england", "iago", "dramatis", "exeunt"):
        assert words[absent] == 0, absent
    for present in ("king", "lord", "i", "i'll", "o", "love", "god", "father", "enter"):
        assert words[present] > 10, present
    assert 0.02 < words[NAME] / words.total() < 0.05


@pytest.mark.network
@pytest.mark.slow
def test_names_can_be_kept(data_root: Path) -> None:
    data = PlayPassagesDataModule(PlayPassagesConfig(root=str(data_root), names="kept", tokenizer=CHARACTERS))
    words = Counter(" ".join(data.texts("train") + data.texts("val") + data.texts("test")).split())
    assert words[NAME] == 0
    assert words["falstaff"] > 50


def test_kinds_of_plays() -> None:
    def kind(name: str, genre: str) -> tuple[str, str]:
        play = Play(name=name, genre=genre, text="")
        return kind_of(play, "folio"), kind_of(play, "folders")

    assert kind("king-lear", "tragedies") == ("tragedy", "tragedies")
    assert kind("the-tempest", "romances") == ("comedy", "romances")
    assert kind("cymbeline", "romances") == ("tragedy", "romances")
    assert kind("troilus-and-cressida", "problems") == ("tragedy", "problems")
    assert kind("measure-for-measure", "problems") == ("comedy", "problems")
    assert kind("coriolanus", "roman") == ("tragedy", "roman")
    assert kind("edward-iii", "histories") == ("history", "histories")


@pytest.mark.network
@pytest.mark.slow
def test_the_source_s_six_folders(data_root: Path) -> None:
    data = PlayPassagesDataModule(
        PlayPassagesConfig(root=str(data_root), kinds="folders", tokenizer=CHARACTERS, names="kept")
    )
    assert data.info.class_names == (
        "comedies",
        "histories",
        "problems",
        "roman",
        "romances",
        "tragedies",
    )
    assert set(data.split("train")[1].tolist()) == set(range(6))


def test_a_fold_beyond_the_last_starts_again_and_the_split_has_its_own_seed() -> None:
    kinds = ["a"] * 9 + ["b"] * 11
    parts = [parts_of(kinds, PlayPassagesConfig(fold=fold)) for fold in range(10)]
    assert parts[:5] == parts[5:]
    assert len({tuple(p) for p in parts[:5]}) == 5
    assert parts_of(kinds, PlayPassagesConfig(split_seed=1)) != parts[0]
    with pytest.raises(ValueError, match="4 items are not enough for 6 folds"):
        parts_of(["a"] * 5, PlayPassagesConfig())


def test_names_are_words_that_always_have_a_capital() -> None:
    common = uncapitalised(["Hero", "and", "Claudio", "I'll", "whose", "hero", "A"])
    assert common == {"and", "whose", "hero"}
    names = [w for w in ("Hero", "Claudio", "I'll", "O", "Whose", "and", "A") if is_name(w, common)]
    assert names == ["Claudio"]


@pytest.mark.parametrize(
    ("count", "length", "sizes"),
    [(10, 3, [3, 3, 4]), (11, 3, [2, 3, 3, 3]), (2, 3, [2]), (0, 3, [0]), (6, 3, [3, 3])],
)
def test_passages_are_of_nearly_equal_length(count: int, length: int, sizes: list[int]) -> None:
    words = [f"w{i}" for i in range(count)]
    passages = cut_passages(words, length)
    assert [len(p.split()) for p in passages] == sizes
    assert " ".join(passages).split() == words


def test_padding_is_behind() -> None:
    rows = padded([[5, 6], [], [7, 8, 9]], 3)
    assert rows.tolist() == [[5, 6, -1], [-1, -1, -1], [7, 8, 9]]
    assert rows.dtype == torch.int64


@pytest.mark.network
def test_loaders_serve_the_splits_and_resume(folds: list[PlayPassagesDataModule]) -> None:
    data = folds[2]
    loader = data.train_dataloader()

    def rows(batches: Iterable[tuple[Tensor, ...]]) -> list[list[int]]:
        """Return each passage's tokens; check that the rest is padding, needed by some row of the batch."""
        found = []
        for tokens, _ in batches:
            lengths = (tokens >= 0).sum(1).tolist()
            assert max(lengths) == tokens.shape[1]
            found += [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
        return found

    stored = [[t for t in row if t >= 0] for row in data.split("train")[0].tolist()]
    served = rows(loader)
    assert served != stored
    assert sorted(served) == sorted(stored)
    for name, own in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        tokens, kinds = data.split(name)
        assert rows(own) == [[t for t in row if t >= 0] for row in tokens.tolist()]
        assert torch.equal(torch.cat([batch[1] for batch in own]), kinds)

    whole = [batch for _ in range(2) for batch in loader]
    stopped, resumed = data.train_dataloader(), data.train_dataloader()
    list(stopped)  # the epoch that `loader` had before
    first = [batch for _, batch in zip(range(9), stopped, strict=False)]
    resumed.load_state_dict(stopped.state_dict())
    rest = [*resumed, *resumed]
    assert len(first) + len(rest) == len(whole)
    for ours, expected in zip(first + rest, whole, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
