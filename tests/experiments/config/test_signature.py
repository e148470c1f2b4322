"""The settings of an own class are the keywords of its signature that a config can write."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Optional

import pytest

from experiments.config.describe import describe
from experiments.config.signature import arguments, schema_of
from experiments.errors import UserError


class Typed:
    def __init__(
        self,
        info: Any,
        width: int,
        rate: float = 0.1,
        names: list[str] = [],  # noqa: B006
        betas: tuple[float, float] = (0.9, 0.99),
        mode: Literal["a", "b"] = "a",
        limit: Optional[int] = None,  # noqa: UP045
        hook: Callable[[], None] | None = None,
        *more: int,
        **rest: int,
    ) -> None: ...


class Untyped:
    def __init__(self, trees=100, depth=None, sizes=(1, 2), flag=False): ...


def test_types_and_defaults_come_from_the_signature() -> None:
    fields = {f.name: f.type for f in dataclasses.fields(schema_of("model", Typed))}
    assert fields == {
        "width": int,
        "rate": float,
        "names": list[str],
        "betas": list[float],
        "mode": Literal["a", "b"],
        "limit": int | None,
    }
    allowed = {s.key: (s.allowed, s.default) for s in describe(schema_of("model", Typed))}
    assert allowed["width"][1] == "required"
    assert allowed["betas"][1] == "[0.9, 0.99]"


def test_without_a_type_the_default_says_it() -> None:
    fields = {f.name: f.type for f in dataclasses.fields(schema_of("baseline", Untyped))}
    assert fields == {
        "trees": int,
        "depth": bool | int | float | str | None,
        "sizes": list[int],
        "flag": bool,
    }


def test_a_call_gets_its_tuples_back_and_what_it_names_of_the_offer() -> None:
    config = schema_of("model", Typed)(width=3)
    offered = {"info": "the data", "seed": 5}
    assert arguments("model", Typed, config, offered) == {
        "info": "the data",
        "width": 3,
        "rate": 0.1,
        "names": [],
        "betas": (0.9, 0.99),
        "mode": "a",
        "limit": None,
    }


def test_the_first_parameter_of_an_optimizer_and_of_a_schedule_is_no_setting() -> None:
    def decay(step: int, *, total_steps: int, power: float = 2.0) -> float: ...

    assert [f.name for f in dataclasses.fields(schema_of("schedule", decay))] == ["power"]

    def optimizer(parameters: Any, lr: float = 0.1) -> None: ...

    assert [f.name for f in dataclasses.fields(schema_of("optimizer", optimizer))] == ["lr"]


def test_a_parameter_that_no_config_can_write_needs_a_default() -> None:
    class Wants:
        def __init__(self, backbone: Callable[[], None]) -> None: ...

    class Configured:
        def __init__(self, config: Any) -> None: ...

    with pytest.raises(UserError, match="Wants needs backbone, and a config cannot write its type"):
        schema_of("model", Wants)
    with pytest.raises(UserError, match=r"Configured needs config, and a class .* needs a schema"):
        schema_of("model", Configured)
