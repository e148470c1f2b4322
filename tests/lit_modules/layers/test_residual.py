import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from lit_modules.layers.residual import Residual


@pytest.mark.parametrize(("planes", "stride"), [(4, 1), (6, 2)])
def test_is_torchvisions_basic_block_before_its_last_relu(planes, stride) -> None:
    torch.manual_seed(0)
    downsample = (
        None if stride == 1 else nn.Sequential(nn.Conv2d(4, planes, 1, stride), nn.BatchNorm2d(planes))
    )
    theirs = BasicBlock(4, planes, stride, downsample).double()
    block = nn.Sequential(theirs.conv1, theirs.bn1, nn.ReLU(), theirs.conv2, theirs.bn2)
    ours = Residual(block, shortcut=downsample)
    images = torch.randn(3, 4, 7, 5, dtype=torch.float64, requires_grad=True)
    mine, other = torch.relu(ours(images)), theirs(images)
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)
    parameters = [images, *theirs.parameters()]
    for our_gradient, their_gradient in zip(
        torch.autograd.grad(mine.square().sum(), parameters),
        torch.autograd.grad(other.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-13)


def test_a_block_that_gives_zeros_is_the_identity() -> None:
    linear = nn.Linear(3, 3)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    inputs = torch.randn(2, 5, 3)
    assert torch.equal(Residual(linear)(inputs), inputs)


def test_further_arguments_reach_the_block() -> None:
    class Scale(nn.Module):
        def forward(self, x: Tensor, factor: float, *, offset: float) -> Tensor:
            return factor * x + offset

    torch.testing.assert_close(Residual(Scale())(torch.ones(2), 3.0, offset=0.5), torch.full((2,), 4.5))


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"block returns shape \(2, 1\) and the shortcut \(2, 3\)"):
        Residual(nn.Linear(3, 1))(torch.zeros(2, 3))
