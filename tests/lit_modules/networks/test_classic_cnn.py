import pytest
import torch
import torch.nn.functional as F

from lit_modules.networks.classic_cnn import ClassicCNN


def test_is_the_network_of_the_example():
    torch.manual_seed(0)
    net = ClassicCNN(image_shape=(1, 28, 28), num_classes=10).eval()
    w1, b1, w2, b2, w3, b3, w4, b4 = net.parameters()
    images = torch.randn(3, 1, 28, 28)
    x = F.relu(F.conv2d(F.relu(F.conv2d(images, w1, b1)), w2, b2))
    x = F.relu(F.linear(F.max_pool2d(x, 2).flatten(1), w3, b3))
    torch.testing.assert_close(net.features(images), x)
    torch.testing.assert_close(net(images), F.linear(x, w4, b4))
    assert sum(p.numel() for p in net.parameters()) == 1_199_882  # as torchinfo reports of the example


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 16)])
def test_takes_any_image_and_reaches_every_parameter(shape):
    torch.manual_seed(0)
    net = ClassicCNN(image_shape=shape, num_classes=5)
    logits = net(torch.randn(6, *shape))
    assert logits.shape == (6, 5)
    F.cross_entropy(logits, torch.arange(6) % 5).backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_drops_in_training_only():
    net = ClassicCNN(image_shape=(1, 8, 8), num_classes=5)
    images = torch.randn(4, 1, 8, 8)
    assert not torch.equal(net(images), net(images))
    net.eval()
    torch.testing.assert_close(net(images), net(images), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 28, 7), (28, 28)])
def test_refuses_what_is_too_small(shape):
    with pytest.raises(ValueError, match="8×8"):
        ClassicCNN(image_shape=shape, num_classes=10)
