"""Draw the graph of a model's operations in TensorBoard."""

import contextlib
import io
import warnings

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.summary import example_input, inspection, is_sharded
from experiments.callbacks.tensorboard import writer
from experiments.console import say
from experiments.errors import RunError


class ModelGraph(Callback):
    """Traces one sample at the start of a fit, for TensorBoard's tab GRAPHS.

    PyTorch cannot trace every model. The fit then goes on without the graph, and a line says why.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the graph of a new fit."""
        to = writer(trainer)
        if to is None or trainer.global_step > 0:
            return
        sample = example_input(pl_module)
        if sample is None or is_sharded(trainer):
            say("no graph: the model has no example_input_array, or its weights are sharded")
            return
        try:
            # PyTorch prints the error of a trace before it raises it.
            with (
                inspection(pl_module),
                trainer.precision_plugin.forward_context(),
                torch.random.fork_rng(),
                warnings.catch_warnings(action="ignore"),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                to.add_graph(pl_module, trainer.strategy.batch_to_device(sample), use_strict_trace=False)
        except RunError:  # the event file cannot be written
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"no graph: PyTorch cannot trace the model: {reason}")
