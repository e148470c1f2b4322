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

from experiments.config.registry import register
from experiments.training.threads import respect_quota

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from experiments.training.fit import Result

__all__ = ["register", "run"]

respect_quota()  # before anything imports torch


def run(*sources: str | Path | Mapping[str, Any], callbacks: Sequence["Callback"] = ()) -> "Result":
    """Run one experiment from config files, `key=value` strings and mappings; later sources win.

    Args:
        sources: Paths of YAML files, overrides such as `"trainer.max_epochs=1"`, or nested mappings.
        callbacks: Your own Lightning callbacks, for a single fit.

    Returns:
        The final metrics, the run directory and the trained module.

    Raises:
        experiments.errors.UserError: The config is wrong.
        experiments.errors.RunError: The run failed for a known reason.
    """
    from experiments.launch import load_sources, run_config

    return run_config(load_sources(*sources), callbacks=callbacks)
