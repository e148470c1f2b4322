"""The base of data sets of sequence pairs. A source may have several right targets.

Shape letters: N sources, M targets, S source tokens, T target tokens, A targets of a source.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.base import Part, ResidentDataModule
from datamodules.info import SequencePairInfo
from datamodules.loading.epoch_loader import EpochLoader, mix_seed
from datamodules.loading.length_buckets import LengthBuckets
from datamodules.loading.resident import Transform
from datamodules.loading.token_rows import (
    BOS,
    EOS,
    PAD,
    encoder,
    padded_rows,
    row_lengths,
    trimmed,
    vocabulary,
)

Answers = Mapping[Any, Sequence[Sequence[str]]]
"""The symbols of each source, and of each of its targets."""


class SequencePairsDataModule(ResidentDataModule):
    """Sources and their targets, served in batches of similar length.

    The input is `symbols… <eos>`, the target `<bos> symbols… <eos>`, both padded at the end.

    Training batches are `(source, target)`, int64 (B, S) and (B, T). Each target of a source makes a pair of
    its own, so every epoch contains all targets and no random choice. Validation and test batches are
    `(source, target, alternatives)` and contain each source once. `alternatives`, int64 (B, A, T), holds all
    targets of a source; the first one is the target. Sources with fewer than A have rows of padding.
    """

    batch_unit = "rows"
    """Unit of the batch size: `rows` or `tokens`."""

    info: SequencePairInfo

    def encode(self, parts: Mapping[Part, Answers], known: Iterable[Answers], **description: Any) -> None:
        """Keep the splits as tokens, and describe them.

        Args:
            parts: The sources and targets of each split.
            known: All sources and targets, used or not. Vocabularies and largest lengths come from them.
            description: The rest of the `SequencePairInfo`.
        """
        known = list(known)
        sources = [source for answers in known for source in answers]
        targets = [target for answers in known for own in answers.values() for target in own]
        inputs = vocabulary(symbol for source in sources for symbol in source)
        outputs = vocabulary(symbol for target in targets for symbol in target)
        for name, answers in parts.items():
            rows = _encoded(answers, encoder(inputs), encoder(outputs))
            self._parts[name] = _training_pairs(*rows) if name == "train" else _by_length(*rows)
        self._info = SequencePairInfo(
            source_vocabulary=inputs,
            target_vocabulary=outputs,
            source_length=max(map(len, sources)) + 1,
            target_length=max(map(len, targets)) + 2,
            train_size=len(self._parts["train"][0]),
            val_size=len(self._parts["val"][0]),
            test_size=len(self._parts["test"][0]),
            **description,
        )

    def transform(self, part: Part) -> Transform:
        """Cut the padding of each batch."""
        return trimmed

    def loader(self, part: Part) -> EpochLoader:
        """Return training pairs in batches of similar length; for evaluation, sources from short to long."""
        if part != "train":
            return super().loader(part)
        return LengthBuckets(
            self.resident(part),
            batch_size=self.config.batch_size,
            unit="tokens" if self.batch_unit == "tokens" else "rows",
            seed=self.seed,
            device=self.device,
            rank=self.rank,
            world_size=self.world_size,
            max_batches=self.max_batches(part),
        )


def split_sources(
    sources: Sequence[Any], *, val: float, test: float, seed: int, folds: int | None = None, fold: int = 0
) -> dict[Part, list[Any]]:
    """Assign sources to splits at random.

    Args:
        sources: The sources.
        val: Share of the validation sources.
        test: Share of the test sources, without folds.
        seed: Seed of the split.
        folds: Number of folds of a cross-validation; None for none.
        fold: The fold that is the test split; `fold` % `folds` is used.

    Raises:
        ValueError: There are fewer sources than folds.
    """
    generator = torch.Generator().manual_seed(mix_seed(seed))
    shuffled = [sources[i] for i in torch.randperm(len(sources), generator=generator).tolist()]
    val_size, test_size = round(val * len(sources)), round(test * len(sources))
    if folds is not None:
        if folds > len(sources):
            raise ValueError(f"{len(sources)} sources are too few for {folds} folds; each fold needs one")
        held_out = shuffled[fold % folds :: folds]
        rest = [source for i, source in enumerate(shuffled) if i % folds != fold % folds]
        return {"val": rest[:val_size], "test": held_out, "train": rest[val_size:]}
    return {
        "val": shuffled[:val_size],
        "test": shuffled[val_size : val_size + test_size],
        "train": shuffled[val_size + test_size :],
    }


def _encoded(
    answers: Answers, inputs: dict[str, int], outputs: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return N sources (N, S), their M targets (M, T), and the number of targets of each source (N,)."""
    source = padded_rows([[*(inputs[symbol] for symbol in source), EOS] for source in answers])
    every = [target for own in answers.values() for target in own]
    targets = padded_rows([[BOS, *(outputs[symbol] for symbol in target), EOS] for target in every])
    return source, targets, torch.tensor([len(own) for own in answers.values()])


def _training_pairs(source: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return one pair for each target."""
    return source.repeat_interleave(counts, dim=0), targets


def _by_length(source: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return source, target and alternatives, short sources first, so that batches have little padding."""
    exists = torch.arange(int(counts.max())) < counts.unsqueeze(1)  # (N, A)
    alternatives = torch.full((*exists.shape, targets.shape[1]), PAD)
    alternatives[exists] = targets
    target = alternatives[:, 0]
    order = row_lengths(target).argsort(stable=True)
    order = order[row_lengths(source)[order].argsort(stable=True)]
    return source[order], target[order], alternatives[order]
