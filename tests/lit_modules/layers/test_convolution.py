import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.layers.convolution import Conv2d, MaxPool2d, conv2d, max_pool2d, windows

CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2)},
    {"kernel_size": 3, "dilation": (2, 1), "padding": 2},
    {"kernel_size": 2, "stride": 3, "groups": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4, "bias": False},
    {"kernel_size": (7, 9), "padding": 1},  # as large as the padded image
]

POOLINGS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": 2, "dilation": 2, "stride": 1},
    {"kernel_size": 1},
]


def convolutions(**options) -> tuple[Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    theirs = nn.Conv2d(4, 8, **options).double()
    ours = Conv2d(in_channels=4, out_channels=8, implementation="by_hand", **options).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(output: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    weight = torch.linspace(-1, 2, max(output.numel(), 1)).to(output)[: output.numel()].view(output.shape)
    return list(torch.autograd.grad((output * weight).sum(), wanted))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_convolution_is_pytorchs(options, batch) -> None:
    ours, theirs = convolutions(**options)
    images = torch.randn(batch, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    mine, other = ours(images), theirs(images)
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)
    assert mine.is_contiguous()
    for our_gradient, their_gradient in zip(
        gradients(mine, [images, *ours.parameters()]),
        gradients(other, [images, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_fused_convolution_is_pytorchs_kernel(options) -> None:
    by_hand, theirs = convolutions(**options)
    fused = Conv2d(in_channels=4, out_channels=8, **options).double()
    fused.load_state_dict(by_hand.state_dict())
    images = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    assert torch.equal(fused(images), theirs(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_rounds_no_worse_than_pytorch(dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    images, weight, bias = (
        torch.randn(shape, generator=generator).to(dtype) for shape in [(8, 16, 9, 9), (32, 16, 3, 3), (32,)]
    )

    def run(convolve, kind: torch.dtype) -> list[Tensor]:
        arguments = [argument.to(kind).requires_grad_() for argument in (images, weight, bias)]
        output = convolve(*arguments)
        return [tensor.double() for tensor in (output.detach(), *gradients(output, arguments))]

    exact = run(F.conv2d, torch.float64)
    for mine, other, reference in zip(run(conv2d, dtype), run(F.conv2d, dtype), exact, strict=True):
        assert (mine - reference).norm() <= 1.5 * (other - reference).norm()


def test_strides_of_the_images_do_not_matter() -> None:
    ours, theirs = convolutions(kernel_size=3, padding=1)
    images = torch.randn(2, 6, 10, 4, dtype=torch.float64).permute(0, 3, 2, 1)[:, :, ::2]
    torch.testing.assert_close(ours(images), theirs(images.contiguous()), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("options", POOLINGS, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
def test_max_pooling_is_pytorchs(options, batch, implementation) -> None:
    images = torch.randn(batch, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    mine = MaxPool2d(implementation=implementation, **options)(images)
    other = nn.MaxPool2d(**options)(images)
    assert torch.equal(mine, other)
    torch.testing.assert_close(gradients(mine, [images]), gradients(other, [images]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", POOLINGS, ids=str)
def test_ties_send_their_gradient_where_pytorch_does(options) -> None:
    images = (
        torch.randint(2, (2, 3, 8, 8), generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    )
    mine, other = MaxPool2d(implementation="by_hand", **options)(images), nn.MaxPool2d(**options)(images)
    assert torch.equal(gradients(mine, [images])[0], gradients(other, [images])[0])


def test_padding_never_wins_and_nan_is_not_hidden() -> None:
    images = torch.full((1, 1, 4, 4), -5.0)
    images[0, 0, 3, 3] = torch.nan
    pooled = max_pool2d(images, (3, 3), stride=(2, 2), padding=(1, 1))
    assert pooled[0, 0, 0, 0] == -5.0
    assert pooled[0, 0, 1, 1].isnan()


def test_pooling_keeps_bf16() -> None:
    images = torch.randn(2, 3, 6, 6).bfloat16()
    assert torch.equal(max_pool2d(images, (2, 2), stride=(2, 2)), F.max_pool2d(images, 2))


def test_windows_are_a_view_that_unfold_agrees_with() -> None:
    images = torch.randn(2, 3, 6, 5)
    view = windows(images, (2, 3), stride=(2, 1))  # (2, 3, 3, 3, 2, 3)
    assert view.untyped_storage().nbytes() == images.untyped_storage().nbytes()
    columns = F.unfold(images, (2, 3), stride=(2, 1))  # (2, 3·2·3, 9)
    assert torch.equal(view.permute(0, 1, 4, 5, 2, 3).reshape(2, 18, 9), columns)


def test_what_does_not_fit_is_refused() -> None:
    images = torch.zeros(1, 4, 5, 5)
    with pytest.raises(ValueError, match="images have 4 channels, the filters read 3 × 1"):
        conv2d(images, torch.zeros(2, 3, 3, 3))
    with pytest.raises(ValueError, match=r"a window of \(9, 3\) does not fit into padded images of \(5, 5\)"):
        conv2d(images, torch.zeros(2, 4, 5, 3), dilation=(2, 1))
    with pytest.raises(ValueError, match=r"shape \(4, 5, 5\), expected \(batch, channels"):
        max_pool2d(images[0], (2, 2), stride=(2, 2))
    with pytest.raises(ValueError, match=r"padding \(2, 0\) is more than half of kernel_size \(3, 3\)"):
        max_pool2d(images, (3, 3), stride=(1, 1), padding=(2, 0))
    with pytest.raises(ValueError, match="out_channels 7 is not a multiple of groups 2"):
        Conv2d(in_channels=4, out_channels=7, kernel_size=3, groups=2)
    for build in (
        lambda: Conv2d(in_channels=1, out_channels=1, kernel_size=1, implementation="x"),
        lambda: MaxPool2d(kernel_size=1, implementation="x"),
    ):
        with pytest.raises(ValueError, match="implementation is 'x'"):
            build()
