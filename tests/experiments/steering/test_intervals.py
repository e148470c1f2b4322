"""Figures of the comparison on hand-made scores."""

import math

import pytest

from datamodules.prompts.prompt_sets import Prompt
from experiments.steering.intervals import RIVALS, estimate_all, table
from experiments.steering.methods import METHODS


def prompt(topic: int, *, seen: bool) -> Prompt:
    return Prompt(
        text="Why?",
        instantiation="skin",
        family="medical",
        topic=str(topic),
        split="test",
        template=0,
        seen=seen,
    )


SEEN = [prompt(topic, seen=True) for topic in range(3)]
UNSEEN = [prompt(topic, seen=False) for topic in range(3)]


def flat(value: float, count: int, **own: list[float]) -> dict[str, list[float]]:
    """The same score for each method and prompt, but for what is given."""
    return {**{method: [value] * count for method in METHODS}, **own}


def test_figures_are_means_over_the_prompts_of_a_subset() -> None:
    margins = flat(1.0, 6, l2s=[2, 3, 4, 5, 6, 7], mean=[1, 1, 1, 1, 2, 3], p2s=[4, 4, 4, 8, 9, 10])
    found = estimate_all([*SEEN, *UNSEEN], margins, flat(1.0, 6, l2s=[0, 1, 1, math.nan, 1, 0]))
    assert found["all/l2s/margin"].value == pytest.approx(4.5)
    assert found["seen/l2s/margin"].value == pytest.approx(3)
    assert found["unseen/l2s_minus_mean"].value == pytest.approx(4)
    assert found["unseen/l2s_minus_ridge"].value == pytest.approx(5)
    assert found["seen/gap_closed"].value == pytest.approx(2 / 3)
    assert found["all/l2s/right"].value == pytest.approx(3 / 5)
    assert found["unseen/l2s/right"].value == pytest.approx(1 / 2)


def test_the_pairs_are_kept_in_the_intervals_of_differences() -> None:
    """Prompts differ far more than methods do, and by the same amount each."""
    margins = flat(0.0, 3, l2s=[-100, 0, 100], mean=[-101, -1, 99])
    found = estimate_all(SEEN, margins, flat(1.0, 3))
    difference = found["all/l2s_minus_mean"]
    assert difference.low == pytest.approx(1)
    assert difference.high == pytest.approx(1)
    assert found["all/l2s/margin"].high > 50


def test_what_was_not_asked_is_no_part_of_the_table() -> None:
    found = estimate_all(SEEN, flat(1.0, 3, mean=[0, 0, 0]), flat(math.nan, 3))
    assert not any(name.startswith("unseen") or name.endswith("/right") for name in found)
    head, _, *rows = table(found).splitlines()
    assert head == "| method | margin | margin, seen templates | right instantiation |"
    assert rows[0] == "| none: no steering | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | – |"
    assert rows.index("") == len(METHODS)
    assert len(rows) == len(METHODS) + 1 + 2 * (len(RIVALS) + 1)
