"""Run a training step, and the changes of its batch, as CUDA graphs."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from datamodules.loading.resident import Batch, Transform
from datamodules.mnist import ImageDataModule
from experiments.errors import UserError
from lit_modules.base import LitModule
from lit_modules.functional.cuda_graph import CudaGraph

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def replay_steps(module: L.LightningModule, datamodule: L.LightningDataModule, trainer: L.Trainer) -> None:
    """Let training run as CUDA graphs: its steps, and the changes of images.

    Raises:
        UserError: There are several processes, or the model's step can't be replayed.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.compile: CUDA graphs need one process, and this run has {trainer.world_size}; use true"
        )
    StepGraph(module)
    if isinstance(datamodule, ImageDataModule):
        datamodule.replay = TransformGraph


class StepGraph:
    """Forward pass, loss and backward pass of a module's training step, as one graph for each batch size.

    It takes the place of the module's `training_step` and `backward`. The graph computes the gradients too;
    `backward` only hands them to the optimizer.

    Args:
        module: A module with a training step that depends on nothing but the batch and the weights.

    Raises:
        UserError: The module's training step depends on more, or can't be recorded.
    """

    def __init__(self, module: L.LightningModule) -> None:
        if not (isinstance(module, LitModule) and module.steps_are_alike):
            raise UserError(
                f"a training step of {type(module).__name__} can't be replayed as a CUDA graph; use "
                "trainer.compile=true or false"
            )
        self._module = module
        self._step: Callable[..., Any] = module.training_step
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._gradients: tuple[Tensor | None, ...] = ()
        self._graphs: dict[Shapes, CudaGraph] = {}
        module.training_step = self.training_step  # type: ignore[method-assign]
        module.backward = self.backward  # type: ignore[method-assign]

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Compute the outputs of the module's training step, and its gradients.

        Returns:
            Copies, because callbacks may keep them longer than a step.
        """
        leaves, spec = tree_flatten(batch)
        shapes = tuple((x.shape, x.dtype) for x in leaves)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._record(leaves, lambda *inputs: tree_unflatten(inputs, spec))
        outputs, self._gradients = self._graphs[shapes](*leaves)
        return tree_map_only(Tensor, torch.clone, outputs)

    def backward(self, loss: Tensor) -> None:
        """Give each parameter its gradient, which the graph has computed together with the loss."""
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def _record(self, leaves: list[Tensor], as_batch: Callable[..., Any]) -> CudaGraph:
        """Record a step; running statistics and random numbers stay as they were."""

        def step(*inputs: Tensor) -> tuple[dict[str, Any], tuple[Tensor | None, ...]]:
            outputs = self._step(as_batch(*inputs), 0)
            loss = outputs["loss"]
            with torch.autocast(loss.device.type, enabled=False):  # Lightning leaves autocast before this
                gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            return tree_map_only(Tensor, torch.detach, outputs), gradients

        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        random_state = torch.cuda.get_rng_state()
        graph = _recorded("the training step", step, leaves)
        for buffer, before in buffers:
            buffer.copy_(before)
        torch.cuda.set_rng_state(random_state)
        return graph


class TransformGraph:
    """A transform of batches as one graph for each batch size.

    Args:
        transform: The transform; it depends on nothing but the batch and the generator.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._graphs: dict[tuple[Shapes, int], CudaGraph] = {}

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return copies of the transformed tensors."""
        key = tuple((x.shape, x.dtype) for x in batch), id(generator)
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
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{what} can't be recorded as a CUDA graph ({reason}); use trainer.compile=true or false"
        ) from error
