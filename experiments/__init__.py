"""How an experiment happens: the only package that knows the Trainer, loggers, run directories and commands.

    from experiments import run
    result = run("configs/mnist_cnn.yaml", "trainer.max_epochs=1")

Importing this package imports no torch; `run` does when it is called.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.registry import register

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from experiments.training.fit import Result

__all__ = ["register", "run"]


def run(*sources: str | Path | Mapping[str, Any], callbacks: Sequence["Callback"] = ()) -> "Result":
    """Run one experiment from config files, `key=value` strings and mappings, later ones winning.

    Args:
        sources: Paths of YAML files, overrides such as `"trainer.max_epochs=1"`, or nested mappings.
        callbacks: Own Lightning callbacks, beside the suite's, for a single fit.

    Returns:
        The final metrics, the run directory and the trained module.

    Raises:
        experiments.errors.UserError: The config is wrong; one or two lines say how.
        experiments.errors.RunError: The run failed for a reason that one line explains.
    """
    from experiments.launch import load_sources, run_config

    return run_config(load_sources(*sources), callbacks=callbacks)
