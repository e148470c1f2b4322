import copy

import pytest
import torch
from torch import Tensor, nn

from lit_modules.layers import recurrent_cells

KINDS = ["RNN", "LSTM", "GRU"]


def gradients(results: list[Tensor], wanted: list[Tensor]) -> list[Tensor]:
    """Of a scalar in which every result has its own weight."""
    weights = [
        torch.linspace(-1, 2, max(result.numel(), 1))[: result.numel()].to(result) for result in results
    ]
    loss = sum((result.flatten() * weight).sum() for result, weight in zip(results, weights, strict=True))
    return list(torch.autograd.grad(loss, wanted))


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize("with_state", [False, True])
def test_cells_are_pytorchs(kind, bias, implementation, batch, with_state) -> None:
    torch.manual_seed(0)
    theirs = getattr(nn, f"{kind}Cell")(3, 5, bias=bias).double()
    ours = getattr(recurrent_cells, f"{kind}Cell")(
        input_size=3, hidden_size=5, bias=bias, implementation=implementation
    ).double()
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(batch, 3, dtype=torch.float64, requires_grad=True)
    state = None
    if with_state:
        parts = [torch.randn(batch, 5, dtype=torch.float64) for _ in range(2)]
        state = tuple(parts) if kind == "LSTM" else parts[0]
    our_results, their_results = (
        list(result) if isinstance(result, tuple) else [result]
        for result in (ours(inputs, state), theirs(inputs, state))
    )
    assert_same(our_results, their_results)
    assert_same(
        gradients(our_results, [inputs, *ours.parameters()]),
        gradients(their_results, [inputs, *theirs.parameters()]),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cells_round_no_worse_than_pytorch(kind, dtype) -> None:
    torch.manual_seed(0)
    theirs = getattr(nn, f"{kind}Cell")(32, 48).to(dtype)
    ours = getattr(recurrent_cells, f"{kind}Cell")(
        input_size=32, hidden_size=48, implementation="by_hand"
    ).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(64, 32).to(dtype)
    exact = copy.deepcopy(theirs).double()(inputs.double())
    results = [ours(inputs), theirs(inputs), exact]
    mine, other, reference = (result[0] if kind == "LSTM" else result for result in results)
    assert (mine.double() - reference).norm() <= 1.5 * (other.double() - reference).norm()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_another_width_are_refused(kind) -> None:
    cell = getattr(recurrent_cells, f"{kind}Cell")(input_size=3, hidden_size=5)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(batch, 3\)"):
        cell(torch.zeros(2, 4))
