"""Digit sequences to reverse, copy or sort: the smallest task for a sequence-to-sequence model."""

from typing import Literal

import torch
from torch import Tensor

from datamodules.base import PARTS, ResidentDataModule
from datamodules.configs.digit_sequences import DigitSequencesConfig
from datamodules.info import SequencePairInfo
from datamodules.loading.epoch_loader import mix_seed
from datamodules.loading.token_rows import BOS, EOS, PAD, SPECIAL, vocabulary

VOCABULARY = vocabulary("0123456789")


class DigitSequencesDataModule(ResidentDataModule):
    """Pairs (source, target) of strings; evaluation batches add the one correct answer as (B, 1, T).

    A source is its digits and `EOS`. A target is `BOS`, its digits and `EOS`. Both are padded at the end. All
    lengths are equally frequent, except short lengths with too few different strings.
    """

    config: DigitSequencesConfig
    info: SequencePairInfo

    def setup(self, stage: str | None = None) -> None:
        """Sample and split the strings; a second call changes nothing."""
        if self._info is not None:
            return
        config = self.config
        sizes = [config.train_size, config.val_size, config.test_size]
        digits, lengths = draw_strings(
            sum(sizes), config.min_length, config.max_length, seed=config.split_seed
        )
        source, target = as_source(digits), as_target(answer(digits, lengths, config.task))
        for name, own in zip(PARTS, torch.arange(len(source)).split(sizes), strict=True):
            alternatives = () if name == "train" else (target[own].unsqueeze(1),)
            self._parts[name] = (source[own], target[own], *alternatives)
        self._info = SequencePairInfo(
            source_vocabulary=VOCABULARY,
            target_vocabulary=VOCABULARY,
            source_length=config.max_length + 1,
            target_length=config.max_length + 2,
            train_size=config.train_size,
            val_size=config.val_size,
            test_size=config.test_size,
        )


def draw_strings(count: int, shortest: int, longest: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Sample different strings of digits, all lengths equally often if there are enough strings.

    Args:
        count: Number N of strings.
        shortest: Number of digits in the shortest strings.
        longest: Number L of digits in the longest strings.
        seed: Seed of the strings and their order.

    Returns:
        Digits 0 … 9, int64 (N, L), with −1 after the end of a string; and the lengths, int64 (N,).
    """
    generator = torch.Generator().manual_seed(mix_seed(seed))
    numbers: list[Tensor] = []
    lengths: list[Tensor] = []
    for length in range(shortest, longest + 1):
        quota = min(10**length, (count - sum(len(drawn) for drawn in numbers)) // (longest + 1 - length))
        numbers.append(_different_numbers(quota, 10**length, generator))
        lengths.append(torch.full((quota,), length))
    order = torch.randperm(count, generator=generator)
    number, length_of = torch.cat(numbers)[order], torch.cat(lengths)[order]
    place = length_of.unsqueeze(-1) - 1 - torch.arange(longest)  # (N, L): the power of ten of a digit
    digits = number.unsqueeze(-1) // 10 ** place.clamp(min=0) % 10
    return digits.masked_fill(place < 0, -1), length_of


def answer(digits: Tensor, lengths: Tensor, task: Literal["reverse", "copy", "sort"]) -> Tensor:
    """Solve the task for each string.

    Args:
        digits: (N, L), with −1 after the end.
        lengths: (N,).
        task: The task.

    Returns:
        (N, L), with −1 after the end.
    """
    if task == "copy":
        return digits
    if task == "sort":
        in_order = digits.masked_fill(digits < 0, 10).sort(dim=1).values
        return in_order.masked_fill(in_order == 10, -1)
    place = lengths.unsqueeze(-1) - 1 - torch.arange(digits.shape[1])
    return digits.gather(1, place.clamp(min=0)).masked_fill(place < 0, -1)


def as_source(digits: Tensor) -> Tensor:
    """Convert digits (N, L), with −1 after the end, to tokens (N, L + 1): the digits, EOS, then PAD."""
    tokens = torch.where(digits < 0, PAD, digits + len(SPECIAL))
    tokens = torch.cat([tokens, torch.full_like(tokens[:, :1], PAD)], dim=1)
    return tokens.scatter(1, (digits >= 0).sum(1, keepdim=True), EOS)


def as_target(digits: Tensor) -> Tensor:
    """Convert digits (N, L), with −1 after the end, to tokens (N, L + 2): BOS, then a source."""
    tokens = as_source(digits)
    return torch.cat([torch.full_like(tokens[:, :1], BOS), tokens], dim=1)


def _different_numbers(count: int, end: int, generator: torch.Generator) -> Tensor:
    """Sample different numbers below `end` uniformly, int64 (count,)."""
    if end <= 4 * count:
        return torch.randperm(end, generator=generator)[:count]
    drawn = torch.randint(end, (0,), generator=generator)
    while len(drawn) < count:  # a few rounds suffice, because at most one number in four is drawn
        drawn = torch.cat([drawn, torch.randint(end, (count,), generator=generator)]).unique()
    return drawn[torch.randperm(len(drawn), generator=generator)[:count]]
