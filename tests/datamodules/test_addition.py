"""The problems against Python's own sums."""

from typing import Any

import pytest
import torch

from datamodules.addition import AdditionDataModule, worked_answer
from datamodules.configs.addition import AdditionConfig
from datamodules.tokenizers import tokenizer_from_dict

SIZES = {"train_size": 200, "val_size": 30, "test_size": 40, "longer_size": 20, "batch_size": 64}


def build(**values: Any) -> AdditionDataModule:
    data = AdditionDataModule(AdditionConfig(**(SIZES | values)), seed=1)
    data.setup("fit")
    return data


def texts(data: AdditionDataModule, part: str) -> list[str]:
    """The problems with their answers; a target is the next token in the answer, else ignored."""
    decode, found = tokenizer_from_dict(data.info.tokenizer).decode, []
    tokens, targets = data.split(part)[:2]
    for x, y in zip(tokens, targets, strict=True):
        counted = y != -100
        last = int(counted.nonzero().max())
        assert torch.equal(x[1 : last + 1][counted[:last]], y[:last][counted[:last]])
        prompt = decode(x[: int(counted.int().argmax()) + 1].tolist())
        answer = decode(y[counted].tolist())
        assert prompt.endswith("=")
        assert answer.index("\n") == len(answer) - 1
        found.append(prompt + answer[:-1])
    return found


def test_the_answers_are_correct_and_no_problem_occurs_twice_in_either_order() -> None:
    data = build()
    found = {part: texts(data, part) for part in ("train", "val", "test")}
    assert {part: len(own) for part, own in found.items()} == {"train": 200, "val": 30, "test": 60}
    seen = set()
    for part, own in found.items():
        for number, text in enumerate(own):
            a, b = map(int, text.split("=")[0].split("+"))
            assert int(text.split(",")[-1]) == a + b
            is_longer = part == "test" and number >= 40
            assert {len(str(a)), len(str(b))} <= ({4} if is_longer else {2, 3})
            seen.add((min(a, b), max(a, b)))
    assert len(seen) == 290
    assert data.split("test")[2].tolist() == [False] * 40 + [True] * 20
    assert not data.split("val")[2].any()
    assert len(data.split("train")) == 2


def test_a_worked_answer_has_the_sum_of_each_column_with_its_carry() -> None:
    assert worked_answer(47, 85) == "12,13,132"
    assert worked_answer(5, 120) == "5,2,1,125"
    assert worked_answer(999, 1) == "10,10,10,1000"
    assert worked_answer(0, 0) == "0,0"


def test_a_stage_that_skips_problems_sees_fresh_ones_and_the_same_test() -> None:
    first, both = build(), build(train_size=300)
    later = build(train_skip=200, train_size=100)
    assert texts(both, "train") == texts(first, "train") + texts(later, "train")
    assert texts(first, "test") == texts(later, "test")
    assert texts(first, "test") != texts(build(split_seed=1), "test")


def test_any_answer_to_any_prompt_fits_into_the_context() -> None:
    info = build(longer_by=2).info
    longest = "99999+99999=" + worked_answer(99999, 99999) + "\n"
    assert info.answer_length == len(longest.split("=")[1])
    assert info.context_length == len(longest) - 1
    assert info.to_dict()["answer_end"] == tokenizer_from_dict(info.tokenizer).encode("\n")[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_digits": 4}, "min_digits: 4 is more than max_digits 3"),
        ({"max_digits": 2, "train_skip": 1900}, "their sum is 2170, but at most 2047 is possible"),
    ],
)
def test_impossible_sizes_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdditionConfig(**(SIZES | values))


def test_the_largest_share_of_all_problems_can_be_drawn() -> None:
    data = build(min_digits=1, max_digits=1, train_size=10, val_size=5, test_size=7)
    assert len({tuple(sorted(text.split("=")[0].split("+"))) for text in texts(data, "train")}) == 10
