import copy

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torchvision import transforms

from experiments.benchmark import classic_mnist
from lit_modules.networks.classic_cnn import ClassicCNN


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty 8×8 images of two classes: bright on the left, or on the right."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(20) % 2
    pixels = torch.randint(0, 100, (20, 1, 8, 8), generator=generator, dtype=torch.uint8)
    pixels[targets == 0, :, :, :4] += 150
    pixels[targets == 1, :, :, 4:] += 150
    return pixels, targets


def make_network() -> ClassicCNN:
    torch.manual_seed(0)
    return ClassicCNN(image_shape=(1, 8, 8), num_classes=2)


def test_loader_serves_every_image_once_and_normalised(images) -> None:
    pixels, targets = images
    torch.manual_seed(0)
    batches = list(classic_mnist.classic_loader(pixels, targets, (0.5,), (0.25,)))
    served, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    expected = (pixels / 255 - 0.5) / 0.25
    order = [next(i for i in range(20) if torch.allclose(expected[i], image, atol=1e-6)) for image in served]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    torch.testing.assert_close(labels, targets[order])


def test_train_is_the_example_step_for_step(images) -> None:
    """Against the loop that the example spells out: log-softmax, NLL, Adadelta, StepLR."""
    pixels, targets = images
    network, reference = make_network(), make_network()
    torch.manual_seed(1)
    batches = classic_mnist.classic_loader(pixels, targets, (0.5,), (0.25,))
    trained = classic_mnist.train(network, batches, *classic_mnist.classic_optimizer(network), epochs=3)

    torch.manual_seed(1)
    batches = classic_mnist.classic_loader(pixels, targets, (0.5,), (0.25,))
    optimizer = torch.optim.Adadelta(reference.parameters(), lr=1.0)
    rates = []
    for epoch in range(3):
        for inputs, wanted in batches:
            optimizer.zero_grad()
            output = torch.log_softmax(reference(inputs), dim=1)
            torch.nn.functional.nll_loss(output, wanted).backward()
            optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        for name, value in reference.state_dict().items():
            torch.testing.assert_close(trained.states[epoch][name], value, rtol=1e-4, atol=1e-5)
        optimizer.param_groups[0]["lr"] *= 0.7
    assert trained.seconds == sorted(trained.seconds)
    assert len(trained.seconds) == 3


def test_a_schedule_can_move_each_step(images) -> None:
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    batches = [[torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])]] * 5
    schedule = LambdaLR(optimizer, lambda step: 0.5**step)
    classic_mnist.train(network, batches, optimizer, schedule, epochs=2, schedule_each="step", bf16=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**10)


def test_accuracies_are_those_of_each_state(images) -> None:
    pixels, targets = images
    network = make_network()
    batches = classic_mnist.classic_loader(pixels, targets, (0.5,), (0.25,))
    trained = classic_mnist.train(network, batches, *classic_mnist.classic_optimizer(network), epochs=8)
    flipped = copy.deepcopy(trained.states[-1])
    flipped["head.weight"], flipped["head.bias"] = -flipped["head.weight"], -flipped["head.bias"]
    normalised = transforms.Normalize((0.5,), (0.25,))(pixels / 255)
    trained.states = [trained.states[-1], flipped]
    assert classic_mnist.accuracies(trained, normalised, targets) == [1.0, 0.0]
