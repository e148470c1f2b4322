from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.networks.two_layer import TwoLayerNetwork

WAYS: list[Any] = ["fused", "by_hand", "numpy"]


def network(implementation: Any) -> TwoLayerNetwork:
    torch.manual_seed(0)
    return TwoLayerNetwork(input_shape=(2, 3), num_outputs=3, hidden=5, implementation=implementation)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 2, 3, generator=generator), torch.tensor([0, 1, 2, 2, 1, 0, 2])


@pytest.mark.parametrize("way", WAYS[1:])
def test_values_and_gradients_do_not_depend_on_the_implementation(way: Any) -> None:
    x, targets = batch()
    fused, ours = network("fused").double(), network(way).double()
    assert list(fused.state_dict()) == list(ours.state_dict())
    losses = []
    for module in (fused, ours):
        loss, logits = module.loss(x.double(), targets)
        torch.testing.assert_close(logits, module(x.double()))
        (3 * loss).backward()  # as the scaler of half precision does
        losses.append(loss.detach())
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.features(x.double()), fused.features(x.double()))
    for a, b in zip(ours.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("way", WAYS)
def test_half_precision_trains(way: Any) -> None:
    x, targets = batch()
    module = network(way).bfloat16()
    loss, _ = module.loss(x.bfloat16(), targets)
    loss.backward()
    expected, _ = network("fused").loss(x, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in module.parameters())


def test_by_hand_all_backward_passes_are_ours() -> None:
    """The graph of autograd holds our functions, and else only reshapes and the mean."""
    loss, _ = network("by_hand").loss(*batch())
    waiting, names = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting += [following for following, _ in node.next_functions]
    ours = {"_LinearBackward", "_ReLUBackward", "_SoftmaxCrossEntropyBackward"}
    assert ours <= names
    assert {n for n in names - ours if not n.startswith(("View", "Reshape"))} <= {
        "MeanBackward0",
        "torch::autograd::AccumulateGrad",
    }
