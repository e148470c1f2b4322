"""Record the kernels of a function once, and launch all of them with one call."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 3
"""Calls before the recording, in which cuBLAS and cuDNN choose their kernels and caches are filled."""


class CudaGraph:
    """A function of tensors as a CUDA graph.

    A step of a small network takes as long as the launches of its kernels. A graph needs one launch for all
    of them. It runs the same kernels, so it gives the same numbers.

    The function must not read a value of a tensor or depend on anything but its inputs and on tensors that
    are changed in place, such as weights. The constructor calls it a few times.

    Args:
        function: The function.
        inputs: Tensors on one GPU; later inputs have the same shapes and types.
        generators: Random generators that the function uses, besides the default one.

    Raises:
        RuntimeError: The function does something that can't be recorded.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Tensor],
        *,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self._inputs = tuple(x.clone() for x in inputs)
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*self._inputs)
        current.wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the function returns; the next call overwrites its tensors."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._outputs
