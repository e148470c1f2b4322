"""Time of RNN, LSTM and GRU, forward and backward: PyTorch's, ours (fused, by hand), and loops over a cell.

By hand, a layer multiplies all its inputs in one matrix product. A loop over a cell needs one per step.

Shape letters: B batch, T steps, D inputs, H hidden width.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.benchmark.harness import Report, interleaved, timed
from experiments.errors import UserError
from experiments.training.machine import default_device
from lit_modules.layers import recurrent
from lit_modules.layers.argument_checks import LayerImplementation
from lit_modules.layers.cell_loop import Cell, CellLoop

BASELINE = "PyTorch's layer"
KINDS: dict[str, Cell] = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes of the workload."""
    parser.add_argument("--batch", type=int, default=32, metavar="B", help="batch size (32)")
    parser.add_argument("--steps", type=int, default=64, metavar="T", help="sequence length (64)")
    parser.add_argument("--width", type=int, default=128, metavar="D", help="input and hidden width (128)")
    parser.add_argument("--layers", type=int, default=1, metavar="L", help="number of layers (1)")


def run(options: argparse.Namespace) -> Report:
    """Measure each kind and implementation, on the accelerator if there is one, else on the CPU."""
    batch, steps, width, layers = options.batch, options.steps, options.width, options.layers
    if min(batch, steps, width, layers) < 1:
        raise UserError(f"sizes {batch}, {steps}, {width}, {layers}: each must be ≥ 1")
    if options.quick:
        batch, steps, width = 2, 3, 4
    repeats = options.repeats or (2 if options.quick else 15)
    device = default_device()
    report = Report(title=f"Recurrent layers on {device.type}, forward and backward")
    report.notes = [
        f"{batch} sequences of {steps} steps, width {width}, {layers} layer(s), fp32; {repeats} turns.",
        f"ratio: time divided by that of {BASELINE}, turn by turn; median.",
    ]
    inputs = torch.randn(batch, steps, width, device=device)
    for kind in KINDS:
        alternatives = ways(kind, width, layers, device)
        calls = {name: timed(_forward_backward(way, inputs)) for name, way in alternatives.items()}
        taken = interleaved(calls, repeats=repeats, warmup=2)
        for name, seconds in taken.items():
            ratio = seconds.ratio_to(taken[BASELINE]).median
            report.rows.append({"kind": kind, "way": name, "ms": seconds.scaled(1e3), "ratio": ratio})
    return report


def ways(kind: str, width: int, layers: int, device: torch.device) -> dict[str, nn.Module]:
    """Return modules from (B, T, D) to ((B, T, H), …) with the same weights, by implementation."""
    theirs = getattr(nn, kind)(width, width, num_layers=layers, batch_first=True)
    ours = {
        implementation: getattr(recurrent, kind)(
            input_size=width, hidden_size=width, num_layers=layers, implementation=implementation
        )
        for implementation in ("fused", "by_hand")
    }
    for stack in ours.values():
        stack.load_state_dict(theirs.state_dict())
    found = {
        BASELINE: theirs,
        "ours, fused": ours["fused"],
        "ours, by hand": ours["by_hand"],
        "loop over PyTorch's cell": cell_loop(theirs, "fused"),
        "loop over our cell": cell_loop(theirs, "by_hand"),
    }
    return {name: way.to(device) for name, way in found.items()}


def cell_loop(stack: nn.RNNBase, implementation: LayerImplementation) -> CellLoop:
    """Return the layers of PyTorch's stack as a loop over cells, with one matrix product per step."""
    loop = CellLoop(
        cell=KINDS[type(stack).__name__],
        input_size=stack.input_size,
        hidden_size=stack.hidden_size,
        num_layers=stack.num_layers,
        implementation=implementation,
    )
    for layer, cell in enumerate(loop.cells):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(stack, f"{name}_l{layer}") for name in names})
    return loop


def _forward_backward(way: nn.Module, inputs: Tensor) -> Callable[[], None]:
    def call() -> None:
        way.zero_grad()
        way(inputs)[0].sum().backward()

    return call
