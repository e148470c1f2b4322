"""The section `sweep`: which settings to search over, and how. Importing this file imports no torch."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting
from experiments.config.messages import show
from experiments.config.schema import as_mapping, build, mapping_or_none
from experiments.config.sources import SECTIONS, Layer
from experiments.errors import UserError

MAX_TRIALS = 1000
"""Largest number of fits in one sweep."""
USUAL_TRIALS = 20
"""Default number of fits of random and tpe."""
SWEPT = (*SECTIONS, "trainer", "seed", "callbacks", "metrics")
"""Root keys that a sweep may set."""


@dataclass(kw_only=True)
class SweepConfig:
    """How a sweep chooses the settings of its fits."""

    method: Literal["auto", "grid", "random", "tpe"] = setting(
        "auto",
        "grid: all combinations of the lists. random: drawn at random. tpe: drawn where earlier fits were "
        "good (Bergstra et al. 2011). auto: grid if there are only lists, else tpe.",
    )
    trials: int | None = setting(
        None,
        f"Number of fits of random and tpe; null: {USUAL_TRIALS}. A grid takes all combinations.",
        min=1,
        max=MAX_TRIALS,
        resume="free",
    )
    jobs: int = setting(1, "Number of fits at the same time.", min=1, max=1000, resume="free")
    prune: bool = setting(
        True,
        "End a fit early if its monitored metric is worse than the median of the earlier fits at this step.",
    )


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One setting to search over: a list of values, or a range."""

    key: str  # the dotted key of the setting
    values: tuple[Any, ...] = ()  # the values of a list; empty for a range
    low: float = 0  # the range; both ends are integers if the setting takes integers
    high: float = 0
    log: bool = False  # whether the logarithm is uniform

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check before the sweep starts."""
        return self.values or (self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A checked section `sweep`."""

    settings: SweepConfig
    dimensions: tuple[Dimension, ...]

    @property
    def keys(self) -> list[str]:
        """The dotted keys of the settings to search over."""
        return [d.key for d in self.dimensions]

    @property
    def method(self) -> str:
        """The method, with `auto` resolved."""
        if self.settings.method != "auto":
            return self.settings.method
        return "grid" if all(d.values for d in self.dimensions) else "tpe"

    @property
    def trials(self) -> int:
        """The number of fits."""
        if self.method == "grid":
            return math.prod(len(d.values) for d in self.dimensions)
        return self.settings.trials or USUAL_TRIALS


def read_sweep(layer: Layer) -> Sweep:
    """Check the section `sweep` of a config.

    Raises:
        UserError: A value is wrong, or the section names no setting.
    """
    section = mapping_or_none(layer, "sweep")
    own = {field.name for field in dataclasses.fields(SweepConfig)}
    settings = build(SweepConfig, {k: v for k, v in section.items() if k in own}, "sweep", layer)
    rest = {k: v for k, v in section.items() if k not in own}
    dimensions = tuple(_dimensions(rest, "", layer))
    sweep = Sweep(settings=settings, dimensions=dimensions)
    where = f"sweep ({layer.origin('sweep')})"
    if not dimensions:
        raise UserError(f"{where} names no setting; write for example sweep.optimizer.lr=[0.1,0.2]")
    if sweep.method == "grid":
        if ranges := [d.key for d in dimensions if not d.values]:
            raise UserError(
                f"{where}: a grid needs lists, but {', '.join(ranges)} is a range; use random or tpe"
            )
        if settings.trials is not None:
            raise UserError(f"{where}: a grid takes all combinations; remove trials, or use random or tpe")
    if sweep.trials > MAX_TRIALS:
        raise UserError(f"{where}: {sweep.trials} combinations are more than {MAX_TRIALS} fits")
    return sweep


def _dimensions(values: Mapping[str, Any], prefix: str, layer: Layer) -> Iterator[Dimension]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        where = f"sweep.{key} ({layer.origin(f'sweep.{key}')})"
        if not prefix and name not in SWEPT:
            raise UserError(f"{where}: a sweep can set keys of {', '.join(SWEPT)}")
        if isinstance(value, list):
            if not value:
                raise UserError(f"{where}: the list is empty")
            if len({show(item) for item in value}) < len(value):
                raise UserError(f"{where}: the list has a value twice")
            yield Dimension(key=key, values=tuple(value))
        elif isinstance(value, Mapping) and value.keys() & {"min", "max", "log"}:
            yield _range(key, value, where)
        elif isinstance(value, Mapping):
            yield from _dimensions(as_mapping(value, key, layer), f"{key}.", layer)
        else:
            raise UserError(
                f"{where} = {show(value)}: write a list of values, or a range such as "
                "{min: 0.001, max: 0.1, log: true}"
            )


def _range(key: str, value: Mapping[str, Any], where: str) -> Dimension:
    low, high, log = value.get("min"), value.get("max"), value.get("log", False)
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
    if value.keys() - {"min", "max", "log"} or not numbers or not isinstance(log, bool):
        raise UserError(f"{where}: a range has the numbers min and max, and log: true or false")
    assert low is not None
    assert high is not None
    if not low < high or (log and low <= 0):
        raise UserError(f"{where}: min must be less than max{', and above 0 with log: true' if log else ''}")
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    return Dimension(key=key, low=low, high=high, log=log)
