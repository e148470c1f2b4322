"""Print the model summary of a fit: parameters, output shapes and floating-point operations."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

log = logging.getLogger("experiments")

FEW_PARTS, MANY_PARTS = 5, 16


@contextmanager
def inspection(module: nn.Module) -> Iterator[None]:
    """Run forward passes without side effects: evaluation mode, no gradients, nothing compiled.

    Afterwards each submodule has its own mode again, since some may stay in evaluation mode on purpose.
    """
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for child, mode in modes:
            child.training = mode


def is_sharded(trainer: L.Trainer) -> bool:
    """Return whether the weights are sharded, so that no process has all of them."""
    return isinstance(trainer.strategy, FSDPStrategy)


def parameter_count(module: nn.Module, *, trainable_only: bool = False) -> int:
    """Count the parameters; a shared parameter counts once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


def forward_flops(module: nn.Module, sample: Any) -> int:
    """Count the floating-point operations of one forward pass in matrix products, convolutions and attention.

    A multiplication and its addition count as two. Element-wise operations do not count, as is usual.

    The module is called as `module(sample)`, or `module(*sample)` for a tuple.
    """
    return _measure(module, sample)[""]


def _lstm_flops(inputs: Any, input_weight: Any, state_weight: Any, *rest: Any, **more: Any) -> int:
    """Count a fused LSTM layer on a CPU: in each step (4H, D) times the input and (4H, H) times the state."""
    steps = math.prod(inputs[:-1])
    return 2 * steps * (math.prod(input_weight) + math.prod(state_weight))


_MORE_FORMULAS = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
"""Operations that PyTorch's counter does not know. A formula is called with the shapes of the tensors."""


def _measure(module: nn.Module, sample: Any) -> dict[str, int]:
    """Count the operations of each submodule by its dotted name; `""` is the whole module."""
    inputs = sample if isinstance(sample, tuple) else (sample,)
    # The counter does not know the fused attention kernels of every device.
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FORMULAS)
    with inspection(module), sdpa_kernel(SDPBackend.MATH), counter:
        module(*inputs)
    root = type(module).__name__
    counts = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
    return {"": counter.get_total_flops()} | {
        name.removeprefix(f"{root}."): flops for name, flops in counts.items() if name.startswith(f"{root}.")
    }


def example_input(pl_module: L.LightningModule) -> Any:
    """Return a batch of one sample: `example_input_array`, zeros of `info.input_shape`, or `None`.

    The count depends only on shapes, and zeros leave loaders and random number generators unchanged.
    """
    if pl_module.example_input_array is not None:
        return pl_module.example_input_array
    shape = getattr(getattr(pl_module, "info", None), "input_shape", ())
    if not shape:
        return None
    parameter = next((p for p in pl_module.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)


def parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the submodules of the summary: the children with parameters, the largest one split further.

    While there are few rows, the part with the most parameters is replaced by its children, unless that would
    make too many rows.
    """
    listed = [(name, child) for name, child in module.named_children() if parameter_count(child)]
    while len(listed) < FEW_PARTS:
        sizes = [parameter_count(part) for _, part in listed]
        largest = sizes.index(max(sizes)) if sizes else 0
        inner = [
            (f"{name}.{child_name}", child)
            for name, part in listed[largest : largest + 1]
            for child_name, child in part.named_children()
            if parameter_count(child)
        ]
        if not inner or len(listed) + len(inner) > MANY_PARTS:
            break
        listed[largest : largest + 1] = inner
    return listed


class Summary(Callback):
    """Prints the summary before a fit starts.

    It runs in `setup`, because later the module may be sharded.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the summary, once per fit and only on rank zero."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        console = self.console or Console()
        if not console.is_terminal:
            console = Console(file=console.file, width=100)
        console.print(summary_table(pl_module, box.SIMPLE_HEAD if console.is_terminal else box.ASCII2))


def summary_table(pl_module: L.LightningModule, style: box.Box = box.SIMPLE_HEAD) -> Table:
    """Build a table with one row for each part of the model and one for the whole."""
    listed = parts(pl_module)
    sample = example_input(pl_module)
    shapes: dict[str, str] = {}
    flops: dict[str, int] = {}
    if sample is not None:
        handles = [child.register_forward_hook(_note_shape(name, shapes)) for name, child in listed]
        try:
            flops = _measure(pl_module, sample)
        except Exception as error:
            # A user's model may have no `forward`, or one with other arguments; its run must not fail here.
            log.info("the summary cannot count operations: %s: %s", type(error).__name__, error)
        finally:
            for handle in handles:
                handle.remove()
    total, trainable = parameter_count(pl_module), parameter_count(pl_module, trainable_only=True)
    table = Table(box=style, show_footer=True, header_style="bold", footer_style="bold")
    # In a narrow terminal the texts wrap. A number would be wrong if it were cut.
    table.add_column("part", footer=type(pl_module).__name__, overflow="fold")
    table.add_column("type", footer="" if trainable == total else f"{trainable:,} trainable", overflow="fold")
    table.add_column("output", footer="")
    table.add_column("parameters", footer=f"{total:,}", justify="right", no_wrap=True)
    table.add_column("FLOP/sample", footer=si(flops.get("")), justify="right", no_wrap=True)
    for name, child in listed:
        table.add_row(
            name,
            type(child).__name__,
            shapes.get(name, ""),
            f"{parameter_count(child):,}",
            si(flops.get(name)),
        )
    return table


def si(number: int | None) -> str:
    """Format a number with three digits and a prefix: 12,345,678 → `12.3 M`; `None` gives an empty text."""
    if number is None:
        return ""
    value, prefixes = float(number), ["", "k", "M", "G", "T", "P"]
    while value >= 999.5 and len(prefixes) > 1:
        value, prefixes = value / 1000, prefixes[1:]
    return f"{value:.3g} {prefixes[0]}".strip()


def _note_shape(name: str, shapes: dict[str, str]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name] = " × ".join(str(n) for n in output.shape[1:])

    return hook
