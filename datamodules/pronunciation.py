"""Spelling to phonemes: the CMU Pronouncing Dictionary, or a dictionary of your own."""

from pathlib import Path

import torch
from torch import Tensor

from datamodules.assets.fetch import fetch
from datamodules.base import Part, ResidentDataModule
from datamodules.configs.pronunciation import PronunciationConfig
from datamodules.info import SequencePairInfo
from datamodules.loading.epoch_loader import EpochLoader, mix_seed
from datamodules.loading.length_buckets import LengthBuckets
from datamodules.loading.resident import Transform
from datamodules.loading.token_rows import (
    BOS,
    EOS,
    PAD,
    SPECIAL,
    encoder,
    padded_rows,
    row_lengths,
    trimmed,
    vocabulary,
)
from datamodules.text.pronunciation_dictionary import Dictionary, drop_stress, read_dictionary, without_stress


class PronunciationDataModule(ResidentDataModule):
    """Words and their pronunciations, split by word, served in batches of similar length.

    The input is `letters… <eos>`, the target `<bos> phonemes… <eos>`, both padded at the end. Letters are the
    characters of the dictionary's words, in lower case: in CMU's dictionary a–z, apostrophe, hyphen and dot.

    Training batches are `(source, target)`, int64 (B, S) and (B, T). Each pronunciation of a word makes a
    pair of its own, so every epoch contains all pronunciations and no random choice. Validation and test
    batches are `(source, target, alternatives)` and contain each word once. `alternatives`, int64 (B, A, T),
    holds all pronunciations of a word; the first one is the target. Words with fewer than A have rows of
    padding.
    """

    config: PronunciationConfig
    info: SequencePairInfo

    def prepare_data(self) -> None:
        """Download the dictionary; Lightning calls this in one process per machine.

        Raises:
            AssetError: The dictionary can't be downloaded.
        """
        self._file()

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode the dictionary; further calls do nothing.

        Raises:
            AssetError: The dictionary can't be downloaded.
            ValueError: A line is malformed, or a split is empty.
        """
        if self._info is not None:
            return
        config = self.config
        dictionary = read_dictionary(self._file())
        if config.stress == "drop":
            dictionary = drop_stress(dictionary)
        words = self._words(sorted(dictionary))
        letters = vocabulary(letter for word in dictionary for letter in word)
        phonemes = vocabulary(p for answers in dictionary.values() for answer in answers for p in answer)
        for name, chosen in words.items():
            part = _encoded(chosen, dictionary, encoder(letters), encoder(phonemes))
            self._parts[name] = _training_pairs(*part) if name == "train" else _by_length(*part)
        self._info = SequencePairInfo(
            source_vocabulary=letters,
            target_vocabulary=phonemes,
            source_length=max(map(len, dictionary)) + 1,
            target_length=max(len(a) for answers in dictionary.values() for a in answers) + 2,
            target_groups=_groups(phonemes),
            error_names=("phoneme", "word", "without_stress"),
            train_size=len(self._parts["train"][0]),
            val_size=len(self._parts["val"][0]),
            test_size=len(self._parts["test"][0]),
        )

    def transform(self, part: Part) -> Transform:
        """Cut the padding of each batch."""
        return trimmed

    def loader(self, part: Part) -> EpochLoader:
        """Return training pairs in batches of similar length; for evaluation, words from short to long."""
        if part != "train":
            return super().loader(part)
        return LengthBuckets(
            self.resident(part),
            batch_size=self.config.batch_size,
            unit="tokens" if self.config.batch_unit == "tokens" else "rows",
            seed=self.seed,
            device=self.device,
            rank=self.rank,
            world_size=self.world_size,
            max_batches=self.max_batches(part),
        )

    def _file(self) -> Path:
        config = self.config
        return fetch("cmudict", config.root) / "cmudict.dict" if config.path is None else Path(config.path)

    def _words(self, words: list[str]) -> dict[Part, list[str]]:
        """Assign the sorted words to splits at random."""
        config = self.config
        generator = torch.Generator().manual_seed(mix_seed(config.split_seed))
        shuffled = [words[i] for i in torch.randperm(len(words), generator=generator).tolist()]
        val, test = (round(share * len(words)) for share in (config.val_fraction, config.test_fraction))
        parts: dict[Part, list[str]] = {
            "val": shuffled[:val],
            "test": shuffled[val : val + test],
            "train": shuffled[val + test :],
        }
        if config.train_words > len(parts["train"]):
            raise ValueError(
                f"train_words: {config.train_words} is more than the {len(parts['train'])} words of the "
                "training split"
            )
        if config.train_words:
            parts["train"] = parts["train"][: config.train_words]
        if empty := [name for name, chosen in parts.items() if not chosen]:
            raise ValueError(
                f"the {empty[0]} split of {len(words)} words is empty; raise its fraction or use more words"
            )
        return parts


def _encoded(
    words: list[str], dictionary: Dictionary, letters: dict[str, int], phonemes: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return N words (N, S), their M pronunciations (M, T), and the number of pronunciations of each (N,)."""
    source = padded_rows([[*(letters[letter] for letter in word), EOS] for word in words])
    answers = [answer for word in words for answer in dictionary[word]]
    targets = padded_rows([[BOS, *(phonemes[p] for p in answer), EOS] for answer in answers])
    return source, targets, torch.tensor([len(dictionary[word]) for word in words])


def _training_pairs(source: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return one pair for each pronunciation."""
    return source.repeat_interleave(counts, dim=0), targets


def _by_length(source: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return source, target and alternatives, short words first, so that batches have little padding."""
    exists = torch.arange(int(counts.max())) < counts.unsqueeze(1)  # (N, A)
    alternatives = torch.full((*exists.shape, targets.shape[1]), PAD)
    alternatives[exists] = targets
    target = alternatives[:, 0]
    order = row_lengths(target).argsort(stable=True)
    order = order[row_lengths(source)[order].argsort(stable=True)]
    return source[order], target[order], alternatives[order]


def _groups(phonemes: tuple[str, ...]) -> tuple[int, ...]:
    """Return a class for each phoneme that ignores its stress; nothing if no phoneme has one."""
    names = [*SPECIAL, *map(without_stress, phonemes[len(SPECIAL) :])]
    if names == list(phonemes):
        return ()
    classes = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(classes[name] for name in names)
