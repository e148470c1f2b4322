"""The classic PyTorch MNIST example as a plain loop: the peer that the suite's speed is measured against.

It is pytorch/examples' `mnist/main.py` in our words: a Dataset of single images, torchvision's per-sample
`ToTensor` and `Normalize`, a shuffling DataLoader, two convolutions and two linear layers, Adadelta whose
rate falls to 0.7 of itself each epoch. Each piece can be swapped, which is how an ablation walks from here to
the suite. The example's log-softmax and negative log-likelihood are cross-entropy.

Shape letters: N images, B batch, C channels, H height, W width, K classes.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adadelta, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torch.utils.data import DataLoader
from torchvision import transforms

from datamodules.images.classic_pipeline import SingleImages

BATCH_SIZE = 64
LEARNING_RATE = 1.0
DECAY_PER_EPOCH = 0.7

State = dict[str, Tensor]
Batches = Iterable[Sequence[Tensor]]


@dataclass
class Trained:
    """A fit's state after each epoch, to be evaluated when no clock runs."""

    network: nn.Module
    """Takes the states."""
    seconds: list[float] = field(default_factory=list)
    """From the first step to each epoch's end."""
    states: list[State] = field(default_factory=list)


def classic_loader(images: Tensor, targets: Tensor, mean: Sequence[float], std: Sequence[float]) -> Batches:
    """The example's training loader; it shuffles by torch's global generator."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    return DataLoader(SingleImages(images, targets, transform), batch_size=BATCH_SIZE, shuffle=True)


def classic_optimizer(network: nn.Module) -> tuple[Optimizer, LRScheduler]:
    """Adadelta, and a schedule to be stepped once an epoch."""
    optimizer = Adadelta(network.parameters(), lr=LEARNING_RATE)
    return optimizer, StepLR(optimizer, step_size=1, gamma=DECAY_PER_EPOCH)


def train(
    network: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    schedule_each: Literal["epoch", "step"] = "epoch",
    bf16: bool = False,
) -> Trained:
    """Train, and keep the weights of each epoch's end.

    Args:
        network: from images (B, C, H, W) to logits (B, K); on the device to train on.
        batches: gives (images, targets) anew each time it is iterated.
        optimizer: of the network's parameters.
        schedule: of the optimizer's rate.
        epochs: passes over `batches`.
        steps_per_epoch: batches of a pass; all by default.
        schedule_each: when the schedule moves.
        bf16: multiply in bfloat16 (autocast); the weights stay fp32.
    """
    trained = Trained(network)
    device = next(network.parameters()).device
    network.train()
    start = time.perf_counter()
    for _ in range(epochs):
        for images, targets in islice(batches, steps_per_epoch):
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(images)  # (B, K)
            loss = F.cross_entropy(logits.float(), targets)
            loss.backward()
            optimizer.step()
            if schedule_each == "step":
                schedule.step()
        if schedule_each == "epoch":
            schedule.step()
        trained.states.append(copy_state(network))  # reading the weights waits for the device
        trained.seconds.append(time.perf_counter() - start)
    return trained


def copy_state(network: nn.Module) -> State:
    """The network's weights and buffers as they are now, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


@torch.no_grad()
def accuracies(trained: Trained, images: Tensor, targets: Tensor) -> list[float]:
    """The share of normalised images (N, C, H, W) that the network classifies right in each state."""
    network = trained.network.eval()
    device = next(network.parameters()).device
    shares = []
    for state in trained.states:
        network.load_state_dict(state)
        correct = [
            (network(some.to(device)).argmax(dim=1).cpu() == wanted).sum()
            for some, wanted in zip(images.split(1000), targets.split(1000), strict=True)
        ]
        shares.append(int(sum(correct)) / len(targets))
    return shares
