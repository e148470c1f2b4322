"""Where a benchmark's bare loop runs."""

import torch


def training_device() -> torch.device:
    """Where a bare loop trains: on the accelerator that the suite would choose, else on the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
