"""What is served against Python's own strings."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.configs.digit_sequences import DigitSequencesConfig
from datamodules.digit_sequences import DigitSequencesDataModule, draw_strings

SIZES = {"train_size": 300, "val_size": 40, "test_size": 50, "batch_size": 64, "eval_batch_size": 16}
ANSWERS = {"reverse": lambda s: s[::-1], "copy": str, "sort": lambda s: "".join(sorted(s))}


def build(**values: Any) -> DigitSequencesDataModule:
    data = DigitSequencesDataModule(DigitSequencesConfig(**(SIZES | values)), seed=1)
    data.setup("fit")
    return data


def text(tokens: Tensor, names: tuple[str, ...], begin: list[str]) -> str:
    """A row's digits; what else is in it is as it should be."""
    row = [names[i] for i in tokens.tolist()]
    end = row.index("<eos>")
    assert row[: len(begin)] == begin
    assert set(row[end + 1 :]) <= {"<pad>"}
    digits = "".join(row[len(begin) : end])
    assert digits.isdigit()
    return digits


def pairs(data: DigitSequencesDataModule, part: str) -> list[tuple[str, str]]:
    names, found = data.info.source_vocabulary, []
    for batch in getattr(data, f"{part}_dataloader")():
        source, target = batch[:2]
        assert source.shape[1] == data.info.source_length
        assert target.shape[1] == data.info.target_length
        if part != "train":
            assert torch.equal(batch[2], target[:, None])
        found += [
            (text(s, names, []), text(t, names, ["<bos>"])) for s, t in zip(source, target, strict=True)
        ]
    return found


@pytest.mark.parametrize("task", ANSWERS)
def test_the_answers_are_right_and_no_string_is_in_two_parts(task: str) -> None:
    data = build(task=task, max_length=7)
    parts = {part: pairs(data, part) for part in ("train", "val", "test")}
    assert {part: len(found) for part, found in parts.items()} == {"train": 300, "val": 40, "test": 50}
    strings = [source for found in parts.values() for source, _ in found]
    assert len(set(strings)) == 390
    assert all(target == ANSWERS[task](source) for found in parts.values() for source, target in found)
    assert {len(source) for source, _ in parts["test"]} >= {2, 3, 4, 5, 6, 7}


def test_lengths_are_equally_frequent_as_far_as_there_are_so_many() -> None:
    digits, lengths = draw_strings(10_000, 1, 6, seed=0)
    assert lengths.bincount().tolist() == [0, 10, 100, 1000, 2963, 2963, 2964]
    assert torch.equal((digits >= 0).sum(1), lengths)
    longest = digits[lengths == 6]
    shares = torch.stack([(longest == digit).double().mean(0) for digit in range(10)])
    assert (shares - 0.1).abs().max() < 0.03  # five standard deviations of a share


def test_all_strings_there_are() -> None:
    digits, lengths = draw_strings(1110, 1, 3, seed=0)
    strings = {"".join(map(str, row[:n])) for row, n in zip(digits.tolist(), lengths.tolist(), strict=True)}
    expected = {f"{number:0{n}d}" for n in (1, 2, 3) for number in range(10**n)}
    assert strings == expected


def test_the_longest_strings_fit() -> None:
    digits, lengths = draw_strings(1000, 18, 18, seed=0)
    assert (lengths == 18).all()
    assert digits.unique().tolist() == list(range(10))
    assert (digits[:, 0].bincount(minlength=10) > 50).all()


def test_the_strings_depend_on_the_split_seed_and_their_order_on_the_run_s() -> None:
    def first(seed: int, split_seed: int) -> list[tuple[str, str]]:
        config = DigitSequencesConfig(**SIZES, split_seed=split_seed)
        data = DigitSequencesDataModule(config, seed=seed)
        data.setup("fit")
        return pairs(data, "train")

    assert first(0, 0) == first(0, 0)
    assert sorted(first(0, 0)) == sorted(first(1, 0))
    assert first(0, 0) != first(1, 0)
    assert sorted(first(0, 0)) != sorted(first(0, 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_length": 5, "max_length": 4}, "min_length: 5 is more than max_length 4"),
        ({"max_length": 2, "train_size": 100}, "their sum is 190, but only 110 strings have 1 to 2 digits"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitSequencesConfig(**(SIZES | values))
