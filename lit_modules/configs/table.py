"""Schemas of the models of tables; importing them imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig, PerceptronConfig
from lit_modules.configs.classifier import ClassifierConfig


@dataclass(kw_only=True)
class TableModelConfig(PerceptronConfig, ModelConfig):
    """The network of a table: a linear model, or a multilayer perceptron."""

    hidden: list[int] = setting([], "Widths of the hidden layers; an empty list gives a linear model.", min=1)


@dataclass(kw_only=True)
class TableClassifierConfig(TableModelConfig, ClassifierConfig):
    """A classifier of table rows; with the objective `binary_cross_entropy`, two classes share one output."""


@dataclass(kw_only=True)
class TableRegressionConfig(TableModelConfig):
    """A model that predicts real numbers from table rows."""

    objectives: ClassVar[tuple[str, ...]] = ("mse",)

    normalize_targets: bool = setting(
        False,
        "Scale and shift the output by the standard deviation and mean of the training targets; losses stay "
        "in the units of the data.",
    )
