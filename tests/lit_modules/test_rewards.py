"""Rewards of single answers."""

import pytest

from lit_modules.rewards import final_answer


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("12,13,132", 1),
        ("12,14,132", 1),  # a wrong step
        ("132", 1),  # no steps
        ("12,13,0132", 0),
        ("12,13,133", 0),
        ("132,", 0),
        ("", 0),
    ],
)
def test_only_the_text_after_the_last_separator_counts(answer: str, reward: float) -> None:
    assert final_answer("47+85=", answer, "12,13,132") == reward


def test_the_separator_is_a_setting() -> None:
    assert final_answer("47+85=", "so: 132", "it is: 132", separator=": ") == 1
