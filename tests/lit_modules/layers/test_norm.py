"""Oracles: `nn.LayerNorm`, `nn.RMSNorm`, `nn.BatchNorm1d`, `nn.BatchNorm2d`."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers.norm import BatchNorm, LayerNorm, RMSNorm

IMPLEMENTATIONS = ("fused", "by_hand")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(module: nn.Module) -> nn.Module:
    """Weights that aren't ones and zeros, in fp64."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=number + 5))
    return module.double()


def results(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of input and parameters."""
    x = x.detach().requires_grad_()
    y = module(x)
    cotangent = normal(*y.shape, seed=99).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], grad_outputs=cotangent)]


def assert_same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(results(ours, x), results(theirs, x), rtol=1e-10, atol=1e-12)


def assert_as_accurate(ours: nn.Module, theirs: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    """Check that errors against fp64 on the same rounded numbers are at most 1.5 times PyTorch's.

    A weight's gradient is a sum over the rows, and the processor's kernel chooses its order. A sum of n terms
    of random sign in any order has a relative error of about √n · u (Higham & Mary 2019, "A new approach to
    probabilistic rounding error analysis"; u = 2⁻²⁴, because all implementations sum in fp32), so that much
    is always allowed there.
    """
    x = x.to(dtype)
    truth = results(theirs.to(dtype).double(), x.double())

    def errors(module: nn.Module) -> list[float]:
        narrow = results(module.to(dtype), x)
        assert all(r.dtype == dtype for r in narrow)
        return [float((n.double() - t).norm() / t.norm()) for n, t in zip(narrow, truth, strict=True)]

    state = {name: tensor.clone() for name, tensor in theirs.to(dtype).state_dict().items()}
    ours.load_state_dict(state)
    reference = errors(theirs)
    theirs.load_state_dict(state)
    measured = errors(ours)
    any_order = math.sqrt(len(x)) * 2**-24
    allowed = [max(1.5 * r, 1e-12 if index < 2 else any_order) for index, r in enumerate(reference)]
    assert all(m <= a for m, a in zip(measured, allowed, strict=True)), (measured, allowed)


SCALES = (1.0, 1e-4, 1e4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("shape", "dims"), [((3, 4, 7), 1), ((3, 4, 7), 2), ((3, 4, 7), 3), ((7,), 1)])
def test_layer_norm_equals_pytorch(implementation: str, scale: float, shape: tuple[int, ...], dims: int):
    normalized = shape[-dims:]
    ours = randomised(LayerNorm(normalized, implementation=implementation))
    theirs = randomised(nn.LayerNorm(normalized))
    assert_same(ours, theirs, scale * normal(*shape))
    assert_same(ours, theirs, scale * (10 + normal(*shape)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_layer_norm_of_one_feature_is_its_bias(implementation: str):
    ours = randomised(LayerNorm(1, implementation=implementation))
    output, gradient, *_ = results(ours, 1e4 + normal(3, 1))
    torch.testing.assert_close(output, ours.bias.detach().expand(3, 1), rtol=1e-10, atol=1e-7)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-7)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_layer_norm_without_bias_with_another_eps_and_non_contiguous(implementation: str):
    ours = randomised(LayerNorm(5, eps=0.1, bias=False, implementation=implementation))
    theirs = randomised(nn.LayerNorm(5, eps=0.1, bias=False))
    assert_same(ours, theirs, normal(5, 4, 3).transpose(0, 2))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_layer_norm_is_as_accurate_as_pytorch(
    implementation: str, dtype: torch.dtype, scale: float, offset: float
):
    ours = LayerNorm(96, implementation=implementation)
    assert_as_accurate(ours, randomised(nn.LayerNorm(96)), scale * (offset + normal(64, 96)), dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(3, 4, 7), (7,), (2, 1), (0, 7)])
def test_rms_norm_equals_pytorch(implementation: str, scale: float, shape: tuple[int, ...]):
    ours = randomised(RMSNorm(shape[-1], eps=1e-6, implementation=implementation))
    theirs = randomised(nn.RMSNorm(shape[-1], eps=1e-6))
    assert_same(ours, theirs, scale * normal(*shape))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", SCALES)
def test_rms_norm_is_as_accurate_as_pytorch(implementation: str, dtype: torch.dtype, scale: float):
    ours = RMSNorm(96, eps=1e-6, implementation=implementation)
    assert_as_accurate(ours, randomised(nn.RMSNorm(96, eps=1e-6)), scale * normal(64, 96), dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rms_norm_bias_is_added(implementation: str):
    norm = randomised(RMSNorm(6, bias=True, implementation=implementation))
    x = normal(3, 6)
    expected = F.rms_norm(x, (6,), norm.weight, 1e-6) + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("partial", "measured"), [(0.5, 4), (0.3, 3), (0.01, 1), (1.0, 7)])
def test_partial_rms_norm_measures_the_first_features_and_scales_all(
    implementation: str, partial: float, measured: int
):
    """Oracle: PyTorch's norm of the first ⌈p · F⌉ features gives these, and so the factor of all others."""
    norm = randomised(RMSNorm(7, partial=partial, bias=True, implementation=implementation))
    x = normal(3, 7).requires_grad_()
    first = F.rms_norm(x[:, :measured], (measured,), eps=1e-6)
    expected = x * (first[:, :1] / x[:, :1]) * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(y.sin().sum(), [x, norm.weight, norm.bias]) for y in (norm(x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", [LayerNorm(8), RMSNorm(8), BatchNorm(8)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_fp32_weights_and_half_precision_input_as_under_autocast(norm: nn.Module, implementation: str):
    norm = type(norm)(8, implementation=implementation)
    nn.init.constant_(norm.weight, 1 + 2**-12)  # a digit that bf16 doesn't have
    x = normal(4, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = norm(x)
    assert inside.dtype == torch.bfloat16
    exact = type(norm)(8, implementation=implementation).double()
    torch.testing.assert_close(inside.double(), exact(x.double()) * (1 + 2**-12), rtol=2**-7.9, atol=1e-6)


@pytest.mark.parametrize(("norm", "last"), [(LayerNorm((3, 8)), "(3, 8)"), (RMSNorm(8), "(8,)")])
def test_other_last_dimensions_are_refused(norm: nn.Module, last: str):
    with pytest.raises(ValueError) as error:
        norm(torch.zeros(2, 3, 7))
    assert str(error.value) == f"the last dimensions of (2, 3, 7) aren't {last}"


@pytest.mark.parametrize("partial", [0.0, 1.1, math.nan])
def test_a_partial_that_is_no_share_is_refused(partial: float):
    with pytest.raises(ValueError, match="partial is"):
        RMSNorm(8, partial=partial)


# Batch norm


BATCHES: list[tuple[tuple[int, ...], str, Callable[[int], nn.Module]]] = [
    ((6, 3), "features_last", nn.BatchNorm1d),
    ((6, 3), "channels_first", nn.BatchNorm1d),
    ((2, 3, 5), "channels_first", nn.BatchNorm1d),
    ((2, 3, 4, 5), "channels_first", nn.BatchNorm2d),
    ((1, 3, 2), "channels_first", nn.BatchNorm1d),
    ((2, 3, 2, 2, 2), "channels_first", nn.BatchNorm3d),
]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("shape", "layout", "oracle"), BATCHES)
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_batch_norm_equals_pytorch_through_training_and_evaluation(
    implementation: str,
    scale: float,
    shape: tuple[int, ...],
    layout: str,
    oracle: Callable[..., nn.Module],
    momentum: float | None,
):
    """The running statistics too: unbiased variance, PyTorch's momentum, or the average of all batches."""
    ours = randomised(BatchNorm(3, momentum=momentum, layout=layout, implementation=implementation))
    theirs = randomised(oracle(3, momentum=momentum))
    for step in range(3):
        assert_same(ours, theirs, scale * (step + normal(*shape, seed=step)))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-10, atol=1e-12)
    assert_same(ours.eval(), theirs.eval(), scale * normal(*shape))
    assert int(ours.num_batches_tracked) == 3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batch_norm_of_sequences_with_features_last(implementation: str):
    """(B, T, F) equals PyTorch's (B, F, T): statistics over batch and time."""
    ours, theirs = randomised(BatchNorm(3, implementation=implementation)), randomised(nn.BatchNorm1d(3))
    x = normal(2, 5, 3)
    torch.testing.assert_close(ours(x), theirs(x.mT).mT, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.mT).mT, rtol=1e-10, atol=1e-12)
    sliced = normal(2, 6, 5, 3)[:, ::2].transpose(1, 2)  # non-contiguous, (B, T, H, F)
    torch.testing.assert_close(
        ours.train()(sliced), theirs.train()(sliced.reshape(-1, 3)).view(2, 5, 3, 3), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", SCALES)
def test_batch_norm_is_as_accurate_as_pytorch(implementation: str, dtype: torch.dtype, scale: float):
    ours = BatchNorm(16, implementation=implementation)
    assert_as_accurate(ours, randomised(nn.BatchNorm1d(16)), scale * normal(256, 16), dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_batch_norm_of_one_value_per_channel(implementation: str):
    """No variance in training, as PyTorch refuses it; fine in evaluation."""
    norm = BatchNorm(3, layout="channels_first", implementation=implementation)
    for shape in ((1, 3), (1, 3, 1, 1)):
        with pytest.raises(ValueError, match=rf"more than one value per channel, got \({shape[0]}, 3"):
            norm(torch.zeros(shape))
    assert int(norm.num_batches_tracked) == 0
    assert norm.eval()(torch.zeros(1, 3)).shape == (1, 3)


def test_channels_in_the_wrong_place_are_refused():
    with pytest.raises(
        ValueError, match=r"\(2, 3, 5\) has 5 channels in the layout features_last, expected 3"
    ):
        BatchNorm(3)(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="layout is 'channels_last'"):
        BatchNorm(3, layout="channels_last")
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        BatchNorm(3)(torch.zeros(3))
