"""Count the operations of a training step and measure the peak of the machine."""

import time

import lightning as L
import torch

from experiments.callbacks.summary import example_input, forward_flops

_SIDE = {"cpu": 1024, "mps": 4096}
_SECONDS = 0.2

_NUMBER_FORMATS = {
    "64-true": torch.float64,
    "16-true": torch.float16,
    "16-mixed": torch.float16,
    "bf16-true": torch.bfloat16,
    "bf16-mixed": torch.bfloat16,
}


def number_format(precision: str) -> torch.dtype:
    """Return the type of matrix products under a Trainer's `precision`."""
    return _NUMBER_FORMATS.get(precision, torch.float32)


def training_flops(pl_module: L.LightningModule) -> int:
    """Count the floating-point operations of training on one sample; 0 if they cannot be counted.

    The backward pass takes twice the operations of the forward pass: one product for the gradient of the
    inputs, one for the gradient of the weights. Attention counts in full, including the masked half, as is
    usual (Chowdhery et al. 2022, "PaLM", appendix B). Recomputation does not count.
    """
    sample = example_input(pl_module)
    if sample is None:
        return 0
    return 3 * forward_flops(pl_module, sample.to(pl_module.device))


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations per second of a large square matrix product: the best result within 0.2 s.

    This is the peak of this machine with its current threads, not that of a data sheet.
    """
    side = _SIDE.get(device.type, 8192)
    a = torch.full((side, side), 0.5, device=device, dtype=dtype)
    best, started = float("inf"), time.perf_counter()
    _multiply(a)  # warm-up: picks kernels and starts threads
    while best == float("inf") or time.perf_counter() - started < _SECONDS:
        best = min(best, _multiply(a))
    return 2 * side**3 / best


def _multiply(a: torch.Tensor) -> float:
    """Return the seconds of one product."""
    _wait(a.device)
    start = time.perf_counter()
    torch.mm(a, a)
    _wait(a.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
