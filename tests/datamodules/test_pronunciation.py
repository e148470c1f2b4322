"""Words and their phonemes: the split, the tensors, and CMU's dictionary itself."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.configs.pronunciation import PronunciationConfig
from datamodules.loading.token_rows import BOS, EOS, PAD
from datamodules.pronunciation import PronunciationDataModule
from datamodules.text.pronunciation_dictionary import (
    Dictionary,
    drop_stress,
    parse_dictionary,
    read_dictionary,
)

VOWELS, CONSONANTS = ["AA", "IY", "UW"], ["B", "D", "K", "S"]


def invented() -> list[str]:
    """Two hundred words; every fifth has three pronunciations, and two of them differ only in stress."""
    lines = []
    for i in range(200):
        word = "".join("abcdefghij"[int(d)] for d in str(7919 * (i + 1)))[: 2 + i % 5] + chr(
            ord("k") + i % 15
        )
        word += f"'{'s' * (i // 20)}" if i % 3 else f"-{'t' * (i // 20)}"
        phonemes = [f"{VOWELS[(i + k) % 3]}{k % 3} {CONSONANTS[(i * k) % 4]}" for k in range(1 + i % 4)]
        lines.append(f"{word} {' '.join(phonemes)}")
        if i % 5 == 0:
            lines.append(f"{word}(2) {' '.join(phonemes)} S")
            lines.append(f"{word}(3) {' '.join(phonemes).replace('0', '1')} S")
    return lines


LINES = invented()
DICTIONARY = parse_dictionary(LINES)


@pytest.fixture
def module(tmp_path: Path) -> Any:
    """A datamodule of invented words."""

    def build(lines: list[str] = LINES, *, seed: int = 0, **values: Any) -> PronunciationDataModule:
        (tmp_path / "my.dict").write_text("\n".join(lines))
        settings = {"batch_size": 16, "eval_batch_size": 4, **values}
        return PronunciationDataModule(
            PronunciationConfig(path=str(tmp_path / "my.dict"), **settings), seed=seed
        )

    return build


def text(row: Tensor, vocabulary: tuple[str, ...]) -> list[str]:
    """Return the symbols of a padded row, special tokens included."""
    return [vocabulary[token] for token in row.tolist() if token != PAD]


def read_back(module: PronunciationDataModule, name: Any) -> Dictionary:
    """Read a split's words and pronunciations from its tensors."""
    info, part = module.info, module.split(name)
    found: dict[str, list[tuple[str, ...]]] = {}
    for source, answers in zip(part[0], part[-1] if len(part) == 3 else part[1].unsqueeze(1), strict=True):
        letters = text(source, info.source_vocabulary)
        assert letters[-1] == "<eos>"
        for answer in answers:
            if phonemes := text(answer, info.target_vocabulary):
                assert (phonemes[0], phonemes[-1]) == ("<bos>", "<eos>")
                found.setdefault("".join(letters[:-1]), []).append(tuple(phonemes[1:-1]))
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


@pytest.mark.parametrize("stress", ["keep", "drop"])
def test_the_parts_together_are_the_dictionary(module: Any, stress: str) -> None:
    built = module(stress=stress)
    parts = {name: read_back(built, name) for name in ("train", "val", "test")}
    assert {name: len(words) for name, words in parts.items()} == {"train": 180, "val": 10, "test": 10}
    together = parts["train"] | parts["val"] | parts["test"]
    assert together == (drop_stress(DICTIONARY) if stress == "drop" else DICTIONARY)


def test_training_has_a_pair_for_each_pronunciation(module: Any) -> None:
    built = module()
    source, target = built.split("train")
    words = read_back(built, "train")
    assert len(source) == len(target) == sum(map(len, words.values())) == built.info.train_size
    assert (target[:, 0] == BOS).all()
    assert ((target == EOS).sum(1) == 1).all()


def test_evaluation_has_each_word_once_and_its_first_pronunciation_is_the_target(module: Any) -> None:
    built = module()
    for name in ("val", "test"):
        source, target, alternatives = built.split(name)
        assert torch.equal(target, alternatives[:, 0])
        assert len(source) == 10
        lengths = [len(word) for word in read_back(built, name)]
        assert lengths == sorted(lengths)


def test_the_split_depends_on_its_seed_alone(module: Any) -> None:
    def words(**values: Any) -> dict[str, set[str]]:
        built = module(**values)
        return {name: set(read_back(built, name)) for name in ("train", "val", "test")}

    first = words()
    assert words(seed=1, batch_size=3, stress="drop") == first
    other = words(split_seed=1)
    assert all(other[name] != first[name] for name in first)
    assert words(lines=[LINES[-1], *LINES[:-1]]) == first


def test_fewer_training_words_are_some_of_all_and_leave_the_rest_alone(module: Any) -> None:
    whole, some = module(), module(train_words=20)
    assert len(read_back(some, "train")) == 20
    assert read_back(some, "train").items() <= read_back(whole, "train").items()
    for name in ("val", "test"):
        assert read_back(some, name) == read_back(whole, name)
    sizes = {"train_size": some.info.train_size}
    assert replace(whole.info, **sizes) == some.info  # so that weights of the one fit the other


def test_it_describes_itself(module: Any) -> None:
    built = module()
    info = built.info
    assert info.source_vocabulary[:3] == info.target_vocabulary[:3] == ("<pad>", "<bos>", "<eos>")
    assert set(info.source_vocabulary[3:]) == {letter for word in DICTIONARY for letter in word}
    assert info.source_length == max(map(len, DICTIONARY)) + 1
    assert info.target_length == max(len(a) for answers in DICTIONARY.values() for a in answers) + 2
    assert (info.val_size, info.test_size) == (10, 10)
    assert info.error_names == ("phoneme", "word", "without_stress")


def test_groups_take_a_phoneme_s_stresses_together(module: Any) -> None:
    info = module().info
    classes: dict[int, set[str]] = {}
    for phoneme, group in zip(info.target_vocabulary, info.target_groups, strict=True):
        classes.setdefault(group, set()).add(phoneme)
    assert sorted(map(sorted, classes.values())) == sorted(
        [
            ["<bos>"],
            ["<eos>"],
            ["<pad>"],
            *([c] for c in CONSONANTS),
            *([f"{v}{s}" for s in "012"] for v in VOWELS),
        ]
    )
    assert info.target_groups[:3] == (0, 1, 2)
    assert module(stress="drop").info.target_groups == ()


def attach(built: PronunciationDataModule, **values: Any) -> PronunciationDataModule:
    """Attach a trainer with ranks, but without processes."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    settings = {"global_rank": 0, "world_size": 1, "limit_train_batches": 1.0, **values}
    built.trainer = SimpleNamespace(strategy=strategy, **settings)  # type: ignore[assignment]
    return built


@pytest.mark.parametrize("world_size", [1, 2])
def test_loaders_serve_every_row_once_over_all_ranks(module: Any, world_size: int) -> None:
    ranks = [attach(module(), global_rank=rank, world_size=world_size) for rank in range(world_size)]
    for name in ("train", "val", "test"):
        loaders = [getattr(built, f"{name}_dataloader")() for built in ranks]
        served = Counter(
            tuple(part[part != PAD].tolist()) for loader in loaders for batch in loader for part in batch[0]
        )
        whole = Counter(tuple(row[row != PAD].tolist()) for row in ranks[0].split(name)[0])
        assert (whole - served).total() < world_size
        assert not served - whole


def test_batches_are_narrow_and_counted_in_words_or_tokens(module: Any) -> None:
    for values in ({}, {"batch_size": 200, "batch_unit": "tokens"}):
        loader = attach(module(**values)).train_dataloader()
        for source, target in loader:
            for part in (source, target):
                assert (part != PAD).any(0).all()
    assert max(len(source) for source, _ in attach(module()).train_dataloader()) == 16
    for source, target, alternatives in attach(module()).val_dataloader():
        assert len(source) <= 4
        assert (source != PAD).any(0).all()
        assert target.shape[1] <= alternatives.shape[2]


def test_a_limited_epoch_ends_where_the_limit_says(module: Any) -> None:
    loader = attach(module(), limit_train_batches=3).train_dataloader()
    assert len(list(loader)) == 3
    assert loader.state_dict() == {"epoch": 1, "batch": 0}


@pytest.mark.parametrize(
    ("lines", "values", "message"),
    [
        (LINES[:8], {}, "the val split of 6 words is empty"),
        (LINES, {"val_fraction": 0.5, "test_fraction": 0.4999}, "the train split of 200 words is empty"),
        (LINES, {"test_fraction": 0.001}, "the test split of 200 words is empty"),
        (LINES, {"train_words": 181}, "train_words: 181 is more than the 180 words"),
        ([*LINES, "broken"], {}, r"my\.dict, line 281: 'broken' has no phonemes"),
    ],
)
def test_an_unusable_dictionary_is_refused(
    module: Any, lines: list[str], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module(lines, **values).setup()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.dict can't be read"):
        PronunciationDataModule(PronunciationConfig(path=str(tmp_path / "none.dict"))).setup()


def test_fractions_that_leave_no_training_data_are_refused() -> None:
    with pytest.raises(ValueError, match="their sum must be below 1"):
        PronunciationConfig(val_fraction=0.5, test_fraction=0.5)


@pytest.fixture(scope="module")
def cmudict(data_root: Path) -> PronunciationDataModule:
    built = PronunciationDataModule(PronunciationConfig(root=str(data_root)))
    built.prepare_data()
    return built


@pytest.mark.network
@pytest.mark.slow
def test_cmu_s_dictionary_is_complete(cmudict: PronunciationDataModule, data_root: Path) -> None:
    info = cmudict.info
    assert "".join(info.source_vocabulary[3:]) == "'-.abcdefghijklmnopqrstuvwxyz"
    assert len(info.target_vocabulary) == 3 + 24 + 3 * 15  # consonants, and vowels with three stresses
    assert len(set(info.target_groups)) == 3 + 39
    assert (info.source_length, info.target_length) == (29, 30)
    assert (info.val_size, info.test_size) == (6303, 6303)
    dictionary = read_dictionary(data_root / "cmudict" / "cmudict.dict")
    assert len(dictionary) == 126_052
    assert dictionary["tomato"] == (
        ("T", "AH0", "M", "EY1", "T", "OW2"),
        ("T", "AH0", "M", "AA1", "T", "OW2"),
    )
    held_out = read_back(cmudict, "val") | read_back(cmudict, "test")
    assert len(held_out) == 2 * 6303
    assert held_out.items() <= dictionary.items()
    pronunciations = [sum(map(len, words.values())) for words in (dictionary, held_out)]
    assert pronunciations[0] == 135_164
    assert info.train_size == pronunciations[0] - pronunciations[1]


@pytest.mark.network
def test_little_of_its_training_batches_is_padding(cmudict: PronunciationDataModule) -> None:
    filled = served = 0
    for batch in cmudict.train_dataloader():
        for part in batch:
            filled += int((part != PAD).sum())
            served += part.numel()
    assert filled / served > 0.98
