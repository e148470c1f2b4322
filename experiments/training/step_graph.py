"""Run a training step as a CUDA graph, and the changes of its images as another."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.nn import Parameter
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from datamodules.loading.resident import Batch, Transform
from datamodules.mnist import ImageDataModule
from experiments.errors import UserError
from experiments.training.lightning_adapter import skip_empty_hooks
from lit_modules.base import LitModule
from lit_modules.functional.cuda_graph import CudaGraph

MOST_GRAPHS = 16
"""Largest number of graphs of one fit."""

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def replay_steps(module: L.LightningModule, datamodule: L.LightningDataModule, trainer: L.Trainer) -> None:
    """Let training run as CUDA graphs: its steps, and the changes of images.

    Raises:
        UserError: There are several processes, their strategy is used for one process, or the model's step
            can't be replayed.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.compile: CUDA graphs need one process, and this run has {trainer.world_size}; set "
            "trainer.devices=1, or use trainer.compile=true or false"
        )
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        raise UserError(
            "trainer.compile: CUDA graphs can't be used with trainer.strategy ddp or fsdp; set it to auto"
        )
    trainer.callbacks.append(StepGraph(module))  # type: ignore[attr-defined]
    skip_empty_hooks(trainer)
    if isinstance(datamodule, ImageDataModule):
        datamodule.replay = TransformGraph


class StepGraph(Callback):
    """Runs forward pass, loss and backward pass of a training step as one CUDA graph for each batch size.

    During a fit it takes the place of the module's `training_step` and `backward`. The graph computes the
    gradients too; `backward` only hands them to the optimizer.

    Args:
        module: A module with a training step that depends on nothing but the batch and the weights.

    Raises:
        UserError: The module's training step depends on more, or can't be recorded.
    """

    def __init__(self, module: L.LightningModule) -> None:
        alike = isinstance(module, LitModule) and module.steps_are_alike and module.automatic_optimization
        if not alike or type(module).backward is not L.LightningModule.backward:
            raise UserError(
                f"a training step of {type(module).__name__} can't be replayed as a CUDA graph; use "
                "trainer.compile=true or false"
            )
        self._module = module
        self._step: Callable[..., Any] = module.training_step
        self._parameters = list(module.parameters())
        self._gradients: tuple[Tensor | None, ...] = ()
        self._graphs: dict[tuple[Shapes, tuple[bool, ...]], CudaGraph] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of the module's methods."""
        pl_module.training_step = self.training_step  # type: ignore[method-assign]
        pl_module.backward = self.backward  # type: ignore[method-assign]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the module its methods back: after the fit its weights may move, and it may be copied."""
        for name in ("training_step", "backward"):
            vars(pl_module).pop(name, None)
        self._graphs, self._gradients = {}, ()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Compute the outputs of the module's training step, and its gradients.

        Returns:
            Copies, because callbacks may keep them longer than a step.

        Raises:
            UserError: The batch has something that is no tensor.
        """
        leaves, spec = tree_flatten(batch)
        if others := {type(x).__name__ for x in leaves if not isinstance(x, Tensor)}:
            raise UserError(
                f"a CUDA graph needs batches of tensors, and this one has {', '.join(sorted(others))}; use "
                "trainer.compile=true or false"
            )
        trained = tuple(parameter.requires_grad for parameter in self._parameters)
        key = tuple((x.shape, x.dtype) for x in leaves), trained
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                raise UserError(
                    f"the batches have more than {MOST_GRAPHS} shapes, and each needs a CUDA graph of its "
                    "own; use trainer.compile=true or false"
                )
            self._graphs[key] = self._record(leaves, lambda *inputs: tree_unflatten(inputs, spec))
        outputs, self._gradients = self._graphs[key](*leaves)
        return tree_map_only(Tensor, torch.clone, outputs)

    def backward(self, loss: Tensor) -> None:
        """Give each parameter its gradient, which the graph has computed together with the loss.

        Raises:
            UserError: The gradients of the step before are still there, because a callback accumulates them,
                or because the module sets them to zero instead of `None`.
        """
        new = list(zip(self._trained(), self._gradients, strict=True))
        if all(parameter.grad is not None for parameter, gradient in new if gradient is not None):
            raise UserError(
                "a CUDA graph overwrites the gradients of the step before, and they were not set to None; "
                "don't accumulate them, or use trainer.compile=true or false"
            )
        for parameter, gradient in new:
            parameter.grad = gradient

    def _trained(self) -> list[Parameter]:
        return [parameter for parameter in self._parameters if parameter.requires_grad]

    def _record(self, leaves: list[Tensor], as_batch: Callable[..., Any]) -> CudaGraph:
        """Record a step; running statistics and random numbers stay as they were."""
        parameters = self._trained()

        def step(*inputs: Tensor) -> tuple[dict[str, Any], tuple[Tensor | None, ...]]:
            outputs = self._step(as_batch(*inputs), 0)
            if isinstance(outputs, Tensor):  # Lightning allows the loss alone
                outputs = {"loss": outputs}
            loss = outputs["loss"]
            with torch.autocast(loss.device.type, enabled=False):  # Lightning leaves autocast before this
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            return tree_map_only(Tensor, torch.detach, outputs), _separate(gradients, parameters)

        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        random_state = torch.cuda.get_rng_state()
        self._module.log = self._refuse_to_log  # type: ignore[method-assign]
        graph = _recorded("the training step", step, leaves)
        del self._module.log
        for buffer, before in buffers:
            buffer.copy_(before)
        torch.cuda.set_rng_state(random_state)
        return graph

    def _refuse_to_log(self, *_: Any, **__: Any) -> None:
        """Raise an error. A replay calls no Python, so it would log nothing."""
        raise UserError(
            f"a training step of {type(self._module).__name__} calls self.log, and a CUDA graph would log "
            "only its first step; return the values in `curves`, or use trainer.compile=true or false"
        )


def _separate(
    gradients: Sequence[Tensor | None], parameters: Sequence[Parameter]
) -> tuple[Tensor | None, ...]:
    """Return gradients in the layout of their parameters, each with memory of its own.

    `loss.backward()` does this too. Clipping changes gradients in place, and fused optimizers need the
    layout.
    """
    separate: list[Tensor | None] = []
    memory: set[int] = set()
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is not None:
            place = gradient.untyped_storage().data_ptr()
            if gradient.stride() != parameter.stride() or place in memory:
                gradient = torch.empty_like(parameter).copy_(gradient)
            memory.add(place)
        separate.append(gradient)
    return tuple(separate)


class TransformGraph:
    """A transform of batches as one graph for each batch size.

    Args:
        transform: The transform; it depends on nothing but the batch and the generator.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._graphs: dict[tuple[Shapes, torch.Generator], CudaGraph] = {}

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return copies of the transformed tensors."""
        key = tuple((x.shape, x.dtype) for x in batch), generator
        if key not in self._graphs:
            state = generator.get_state()
            self._graphs[key] = _recorded(
                "the transform of training batches",
                lambda *tensors: self._transform(tensors, generator),
                batch,
                generators=[generator],
            )
            generator.set_state(state)
        return tuple(x.clone() for x in self._graphs[key](*batch))


def _recorded(what: str, function: Callable[..., Any], inputs: Sequence[Tensor], **options: Any) -> CudaGraph:
    """Record a function.

    Raises:
        UserError: It can't be recorded.
    """
    try:
        return CudaGraph(function, inputs, **options)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{what} can't be recorded as a CUDA graph ({reason}); use trainer.compile=true or false"
        ) from error
