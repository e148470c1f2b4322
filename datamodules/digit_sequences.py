"""Strings of digits to be reversed, copied or sorted: the smallest task for a model that reads and writes."""

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
    """Pairs (source, target) of strings; to evaluate, with the one right answer as (B, 1, T) behind.

    A source is its digits and `EOS`, a target `BOS`, its digits and `EOS`, both padded behind to the
    longest. All lengths are equally frequent, but for short ones that don't have so many strings.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed, of the training order.
    """

    config: DigitSequencesConfig
    info: SequencePairInfo

    def setup(self, stage: str | None = None) -> None:
        """Draw the strings and part them; a second call changes nothing."""
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
    """Draw different strings of digits, all lengths equally often as far as there are so many.

    Args:
        count: N, no more than there are.
        shortest: Digits of the shortest ones.
        longest: L, digits of the longest ones.
        seed: Decides everything, the order included.

    Returns:
        Digits 0 … 9, int64 (N, L), −1 behind a string's end; and the lengths, int64 (N,).
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
    place = length_of.unsqueeze(-1) - 1 - torch.arange(longest)  # (N, L): a digit's power of ten
    digits = number.unsqueeze(-1) // 10 ** place.clamp(min=0) % 10
    return digits.masked_fill(place < 0, -1), length_of


def answer(digits: Tensor, lengths: Tensor, task: Literal["reverse", "copy", "sort"]) -> Tensor:
    """What is to be written for each string.

    Args:
        digits: (N, L), −1 behind the end.
        lengths: (N,).
        task: What to do.

    Returns:
        (N, L), laid out alike.
    """
    if task == "copy":
        return digits
    if task == "sort":
        in_order = digits.masked_fill(digits < 0, 10).sort(dim=1).values
        return in_order.masked_fill(in_order == 10, -1)
    place = lengths.unsqueeze(-1) - 1 - torch.arange(digits.shape[1])
    return digits.gather(1, place.clamp(min=0)).masked_fill(place < 0, -1)


def as_source(digits: Tensor) -> Tensor:
    """Digits (N, L), −1 behind the end, as tokens (N, L + 1): EOS behind the last, then PAD."""
    tokens = torch.where(digits < 0, PAD, digits + len(SPECIAL))
    tokens = torch.cat([tokens, torch.full_like(tokens[:, :1], PAD)], dim=1)
    return tokens.scatter(1, (digits >= 0).sum(1, keepdim=True), EOS)


def as_target(digits: Tensor) -> Tensor:
    """Digits (N, L), −1 behind the end, as tokens (N, L + 2): a source behind BOS."""
    tokens = as_source(digits)
    return torch.cat([torch.full_like(tokens[:, :1], BOS), tokens], dim=1)


def _different_numbers(count: int, end: int, generator: torch.Generator) -> Tensor:
    """Uniformly chosen different numbers below an end, int64 (count,)."""
    if end <= 4 * count:
        return torch.randperm(end, generator=generator)[:count]
    drawn = torch.randint(end, (0,), generator=generator)
    while len(drawn) < count:  # in a few rounds, since at most one number in four is taken
        drawn = torch.cat([drawn, torch.randint(end, (count,), generator=generator)]).unique()
    return drawn[torch.randperm(len(drawn), generator=generator)[:count]]
