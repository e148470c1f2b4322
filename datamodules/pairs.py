"""Your own pairs of texts, from a TSV or JSONL file."""

from pathlib import Path

from datamodules.base import PARTS, Part
from datamodules.configs.pairs import PairsConfig
from datamodules.sequence_pairs import SequencePairsDataModule, split_sources
from datamodules.text.pair_files import read_pairs

Symbols = tuple[str, ...]
Targets = dict[Symbols, list[Symbols]]


class PairsDataModule(SequencePairsDataModule):
    """Pairs of a source and a target text, as characters or words.

    The vocabularies are those of all splits: a symbol that occurs only in validation would otherwise have no
    token.
    """

    config: PairsConfig

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode the pairs; a second call changes nothing.

        Raises:
            ValueError: A file is missing or malformed, or a split is empty.
        """
        if self._info is not None:
            return
        config = self.config
        own = {name: self._read(path) for name, path in config.own_paths.items()}
        whole = self._read(config.path)
        held_out = split_sources(
            sorted(whole),
            val=0 if "val" in own else config.val_fraction,
            test=0 if "test" in own else config.test_fraction,
            seed=config.split_seed,
            folds=config.folds,
            fold=config.fold,
        )
        drawn = {name: {source: whole[source] for source in chosen} for name, chosen in held_out.items()}
        parts: dict[Part, Targets] = {name: own.get(name, drawn[name]) for name in PARTS}
        for name, pairs in parts.items():
            if not pairs:
                raise ValueError(f"the {name} split of {config.path} is empty; use more pairs")
            if twice := len(pairs.keys() & parts["train"].keys()) if name != "train" else 0:
                self.notes.append(f"{twice} of {len(pairs)} sources of the {name} split are in training too")
        self.encode(
            parts,
            parts.values(),
            source_words=config.source_tokens == "words",
            target_words=config.target_tokens == "words",
        )

    def _read(self, path: str) -> Targets:
        """Return the distinct targets of each source; leave out pairs with a text that is too long."""
        config, found, long = self.config, Targets(), 0
        for pair in read_pairs(Path(path)):
            source, target = (
                symbols(text, words=kind == "words")
                for text, kind in zip(pair, (config.source_tokens, config.target_tokens), strict=True)
            )
            if max(len(source), len(target)) > config.max_tokens:
                long += 1
            elif target not in found.setdefault(source, []):
                found[source].append(target)
        if long:
            self.notes.append(f"left out {long} pairs of {path} with more than {config.max_tokens} tokens")
        return found


def symbols(text: str, *, words: bool) -> Symbols:
    """Return the words or the characters of a text."""
    return tuple(text.split()) if words else tuple(text)
