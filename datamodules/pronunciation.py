"""Spelling to phonemes: the CMU Pronouncing Dictionary, or a dictionary of your own."""

from pathlib import Path

from datamodules.assets.fetch import fetch
from datamodules.base import Part
from datamodules.configs.pronunciation import PronunciationConfig
from datamodules.loading.token_rows import SPECIAL, vocabulary
from datamodules.sequence_pairs import SequencePairsDataModule, split_sources
from datamodules.text.pronunciation_dictionary import drop_stress, read_dictionary, without_stress

NAMES = ("phoneme", "word", "without_stress")
"""Names of the error rates."""


class PronunciationDataModule(SequencePairsDataModule):
    """Words and their pronunciations, split by word.

    Letters are the characters of the dictionary's words, in lower case: in CMU's dictionary a–z, apostrophe,
    hyphen and dot.
    """

    config: PronunciationConfig

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
        answers = {name: {word: dictionary[word] for word in chosen} for name, chosen in words.items()}
        phonemes = vocabulary(p for own in dictionary.values() for answer in own for p in answer)
        self.encode(answers, [dictionary], target_groups=_groups(phonemes), error_names=NAMES)

    @property
    def batch_unit(self) -> str:  # type: ignore[override]
        """Unit of the batch size: words or tokens."""
        return self.config.batch_unit

    def _file(self) -> Path:
        config = self.config
        return fetch("cmudict", config.root) / "cmudict.dict" if config.path is None else Path(config.path)

    def _words(self, words: list[str]) -> dict[Part, list[str]]:
        """Assign the sorted words to splits at random."""
        config = self.config
        parts = split_sources(
            words,
            val=config.val_fraction,
            test=config.test_fraction,
            seed=config.split_seed,
            folds=config.folds,
            fold=config.fold,
        )
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


def _groups(phonemes: tuple[str, ...]) -> tuple[int, ...]:
    """Return a class for each phoneme that ignores its stress; nothing if no phoneme has one."""
    names = [*SPECIAL, *map(without_stress, phonemes[len(SPECIAL) :])]
    if names == list(phonemes):
        return ()
    classes = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(classes[name] for name in names)
