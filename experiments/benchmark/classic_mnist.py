"""The classic PyTorch MNIST example in a plain loop, to compare the suite's speed with.

It follows `mnist/main.py` of pytorch/examples: a Dataset of single images, torchvision's `ToTensor` and
`Normalize` per sample, a shuffling DataLoader, two convolutions and two linear layers, and Adadelta with a
learning rate that is multiplied by 0.7 after each epoch. An ablation can replace each piece. The example's
log-softmax and negative log-likelihood are written as cross-entropy.

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
    """The weights of a fit after each epoch, to evaluate outside the measured time."""

    network: nn.Module
    """The network that the states belong to."""
    seconds: list[float] = field(default_factory=list)
    """Time from the first step to the end of each epoch."""
    states: list[State] = field(default_factory=list)


def classic_loader(images: Tensor, targets: Tensor, mean: Sequence[float], std: Sequence[float]) -> Batches:
    """Return the training loader of the example. It shuffles with torch's global generator."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    return DataLoader(SingleImages(images, targets, transform), batch_size=BATCH_SIZE, shuffle=True)


def classic_optimizer(network: nn.Module) -> tuple[Optimizer, LRScheduler]:
    """Return Adadelta and a schedule with one step per epoch."""
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
    """Train, and keep the weights after each epoch.

    `batches` yields (images, targets) in each epoch. With `bf16`, matrix products are in bfloat16.
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
        trained.states.append(copy_state(network))  # Copying the weights waits for the device.
        trained.seconds.append(time.perf_counter() - start)
    return trained


def copy_state(network: nn.Module) -> State:
    """Copy the network's weights and buffers to the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


@torch.no_grad()
def accuracies(trained: Trained, images: Tensor, targets: Tensor) -> list[float]:
    """Return the accuracy on normalized images (N, C, H, W) for each state."""
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
