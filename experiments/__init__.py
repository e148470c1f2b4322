"""Run experiments: configs, the Trainer, loggers, run directories and commands.

    from experiments import run
    result = run("configs/mnist_cnn.yaml", "trainer.max_epochs=1")

Importing this package does not import torch; calling `run` does.
"""

from experiments import early_ctrl_c  # noqa: F401

# isort: split
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.own_code import register
from experiments.training.threads import respect_quota

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers.logger import Logger

    from experiments.training.fit import Result

__all__ = ["register", "run"]

respect_quota()  # before anything imports torch


def run(
    *sources: str | Path | Mapping[str, Any],
    callbacks: Sequence["Callback"] = (),
    loggers: Sequence["Logger"] = (),
) -> "Result":
    """Run one experiment from config files, `key=value` strings and mappings; later sources win.

    Args:
        sources: Paths of YAML files, overrides such as `"trainer.max_epochs=1"`, or nested mappings.
        callbacks: Your own Lightning callbacks, for a fit or for each fit of a chain. A study trains in other
            processes: register the class, and name it in the section `callbacks` of the config.
        loggers: Your own Lightning loggers, likewise.

    Returns:
        The final metrics, the run directory and the trained module.

    Raises:
        experiments.errors.UserError: The config is wrong.
        experiments.errors.RunError: The run failed for a known reason.
    """
    from experiments.launch import load_sources, run_config

    return run_config(load_sources(*sources), callbacks=callbacks, loggers=loggers)
