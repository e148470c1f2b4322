"""A value is taken only as the type its field has, within its range, and the refusal says what is allowed."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from experiments.config.schema import build
from experiments.config.sources import Layer, read_mapping
from experiments.errors import UserError


@dataclass(kw_only=True)
class Inner:
    chance: float = field(default=0.0, metadata={"help": "A probability.", "min": 0, "max": 1})


@dataclass(kw_only=True)
class Schema:
    width: int = field(metadata={"help": "How wide.", "min": 1})
    rate: float = field(default=0.5, metadata={"help": "How fast.", "above": 0, "below": 1})
    on: bool = field(default=False, metadata={"help": "Whether."})
    kind: Literal["x", "y", 3] = field(default="x", metadata={"help": "Which."})
    word: str | None = field(default=None, metadata={"help": "What.", "choices": ("red", "green")})
    sizes: list[int] = field(default_factory=list, metadata={"help": "Sizes.", "min": 1, "max": 9})
    either: int | list[int] | str = field(default="auto", metadata={"help": "One or more."})
    inner: Inner = field(default_factory=Inner, metadata={"help": "More."})

    def __post_init__(self) -> None:
        if len(self.sizes) > self.width:
            raise ValueError(f"sizes: {len(self.sizes)} entries are more than width {self.width}")


def make(**values: Any) -> Schema:
    return build(Schema, {"width": 4, **values}, "part", read_mapping({"part": values}, "here"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 1),
        ("rate", 0.999),
        ("on", True),
        ("kind", 3),
        ("word", None),
        ("word", "red"),
        ("sizes", [1, 9]),
        ("sizes", []),
        ("either", 2),
        ("either", [0, 1]),
        ("either", "auto"),
    ],
)
def test_allowed_values_are_kept(key: str, value: Any) -> None:
    got = getattr(make(**{key: value}), key)
    assert got == value
    assert type(got) is type(value)


def test_an_integer_passes_as_a_float_and_a_tuple_as_a_list() -> None:
    @dataclass(kw_only=True)
    class Number:
        x: float = field(metadata={"help": ""})

    made = build(Number, {"x": 3}, "", Layer())
    assert (made.x, type(made.x)) == (3.0, float)
    assert make(sizes=(1, 2)).sizes == [1, 2]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("width", 0, "an integer ≥ 1"),
        ("width", 1.0, "an integer ≥ 1"),
        ("width", True, "an integer ≥ 1"),
        ("width", "4", "an integer ≥ 1"),
        ("width", None, "an integer ≥ 1"),
        ("rate", 0.0, "a number > 0 and < 1"),
        ("rate", 1, "a number > 0 and < 1"),
        ("rate", float("nan"), "a number > 0 and < 1"),
        ("rate", float("inf"), "a number > 0 and < 1"),
        ("rate", False, "a number > 0 and < 1"),
        ("on", 1, "true or false"),
        ("on", "true", "true or false"),
        ("kind", "z", "x, y, 3"),
        ("kind", 3.0, "x, y, 3"),
        ("word", "blue", "red, green or null"),
        ("sizes", [1, 10], "a list of integers ≥ 1 and ≤ 9"),
        ("sizes", [1, "2"], "a list of integers ≥ 1 and ≤ 9"),
        ("sizes", [[1]], "a list of integers ≥ 1 and ≤ 9"),
        ("sizes", "12", "a list of integers ≥ 1 and ≤ 9"),
        ("either", 1.5, "an integer or a list of integers or a string"),
        ("inner", 3, "a mapping of keys to values"),
        ("inner", {"chance": 1.01}, "a number ≥ 0 and ≤ 1"),
    ],
)
def test_anything_else_is_refused_with_key_value_origin_and_what_is_allowed(
    key: str, value: Any, allowed: str
) -> None:
    with pytest.raises(UserError) as caught:
        make(**{key: value})
    message = str(caught.value)
    assert f"part.{key}" in message
    assert "(here)" in message
    assert allowed in message
    assert "\n" not in message


def test_a_misspelt_choice_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean green\?"):
        make(word="gren")


def test_a_word_that_is_no_choice_is_not_called_a_wrong_type() -> None:
    with pytest.raises(
        UserError, match=r"kind = 'yy' .* is not allowed \(did you mean y\?\); allowed: x, y, 3"
    ):
        make(kind="yy")
    with pytest.raises(UserError, match=r"kind = 3\.0 .* is of the wrong type"):
        make(kind=3.0)
    with pytest.raises(UserError, match=r"width = 'z' .* is of the wrong type"):
        make(width="z")


def test_an_unknown_key_names_the_nearest_or_all_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown key part\.inner\.chanse .*did you mean chance\?") as caught:
        make(inner={"chanse": 1})
    assert "allowed in" not in str(caught.value)
    with pytest.raises(UserError, match=r"unknown key part\.zzz .*allowed in part: either, inner, kind"):
        make(zzz=1)
    with pytest.raises(UserError, match="never imports code"):
        make(_target_="os.system")


def test_a_required_key_that_is_missing_says_what_it_is_for() -> None:
    with pytest.raises(UserError, match=r"part\.width is missing: How wide\."):
        build(Schema, {}, "part", Layer())


def test_a_check_across_fields_names_the_section_and_its_origin() -> None:
    with pytest.raises(UserError, match=r"part \(here\): sizes: 5 entries are more than width 4"):
        make(sizes=[1, 1, 1, 1, 1])
