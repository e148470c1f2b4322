"""Convolution and max-pooling of images, by hand on a view of all windows.

A window is the patch of the image that determines one output position. An axis of size N has
⌊(N + 2p − d (K − 1) − 1) / s⌋ + 1 windows, with kernel K, stride s, padding p and dilation d (Dumoulin &
Visin 2016, relationship 14). Convolution multiplies each window by the filters; pooling takes its maximum.

Shape letters: B batch, C input channels, O output channels, G groups, (H, W) image, (H', W') output,
(K_h, K_w) kernel.
"""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice

Size = int | tuple[int, int]
"""One number for both axes, or (vertical, horizontal)."""


def windows(
    images: Tensor,
    kernel_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    fill: float = 0.0,
) -> Tensor:
    """Return a view of all windows of a batch of images.

    Args:
        images: (B, C, H, W).
        kernel_size: (K_h, K_w).
        stride: Distance between adjacent windows.
        padding: Rows and columns added on each side.
        dilation: Distance between adjacent entries of a window.
        fill: Value of the padding.

    Returns:
        (B, C, H', W', K_h, K_w), a view of the padded images; overlapping windows share memory.

    Raises:
        ValueError: Images that aren't 4-D; a window larger than a padded image.
    """
    if images.dim() != 4:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, expected (batch, channels, height, width)"
        )
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]), value=fill)
    reach = tuple(spread * (size - 1) + 1 for spread, size in zip(dilation, kernel_size, strict=True))
    if padded.shape[-2] < reach[0] or padded.shape[-1] < reach[1]:
        raise ValueError(f"a window of {reach} does not fit into padded images of {tuple(padded.shape[-2:])}")
    view = padded.unfold(2, reach[0], stride[0]).unfold(3, reach[1], stride[1])  # (B, C, H', W', …)
    return view[..., :: dilation[0], :: dilation[1]]


def conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute a convolution as one matrix product for each group (im2col; Chellapilla et al. 2006).

        y[o, i, j] = b[o] + Σ_{c,k,l} w[o, c, k, l] · x[c, s·i + d·k − p, s·j + d·l − p]

    As usual in deep learning the kernel isn't flipped, so this is a cross-correlation. Half precision is
    computed in fp32, because the gradient of a pixel is a sum over all windows that contain it.

    Args:
        images: (B, C, H, W).
        weight: Filters, (O, C / G, K_h, K_w).
        bias: (O,).
        stride: s.
        padding: p, with zeros.
        dilation: d.
        groups: G; each group of output channels uses its own share of the input channels.

    Returns:
        (B, O, H', W').

    Raises:
        ValueError: Channels that don't match the filters and groups; a window larger than the image.
    """
    if images.dim() == 4 and images.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"images have {images.shape[1]} channels, the filters read {weight.shape[1]} × {groups}"
        )
    weight = widen(weight)
    kernel_size = (weight.shape[2], weight.shape[3])
    patches = windows(widen(images), kernel_size, stride=stride, padding=padding, dilation=dilation)
    batch, height, width = patches.shape[0], patches.shape[2], patches.shape[3]
    length = weight[0].numel()  # L = C / G · K_h · K_w, the number of terms in each output
    patches = patches.unflatten(1, (groups, weight.shape[1]))  # (B, G, C / G, H', W', K_h, K_w)
    patches = patches.permute(1, 0, 3, 4, 2, 5, 6).reshape(groups, batch * height * width, length)
    filters = weight.reshape(groups, weight.shape[0] // groups, length).mT  # (G, L, O / G)
    outputs = patches @ filters  # (G, B·H'·W', O / G)
    outputs = outputs.view(groups, batch, height, width, filters.shape[-1]).permute(1, 0, 4, 2, 3)
    outputs = outputs.reshape(batch, weight.shape[0], height, width)
    if bias is not None:
        outputs = outputs + widen(bias).view(-1, 1, 1)
    return outputs.to(images.dtype).contiguous()


def max_pool2d(
    images: Tensor,
    kernel_size: tuple[int, int],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Compute the maximum of each window; with ties the gradient goes to the first, as in PyTorch.

    Args:
        images: (B, C, H, W).
        kernel_size: (K_h, K_w).
        stride: Distance between adjacent windows.
        padding: Rows and columns added on each side. They contain −∞, so they are never the maximum.
        dilation: Distance between adjacent entries of a window.

    Returns:
        (B, C, H', W').

    Raises:
        ValueError: Padding of more than half the kernel, where a window could contain only padding; a window
            larger than the image.
    """
    if padding[0] > kernel_size[0] // 2 or padding[1] > kernel_size[1] // 2:
        raise ValueError(f"padding {padding} is more than half of kernel_size {kernel_size}")
    found = windows(
        images, kernel_size, stride=stride, padding=padding, dilation=dilation, fill=-math.inf
    )  # (B, C, H', W', K_h, K_w)
    return found.flatten(-2).max(dim=-1).values


class Conv2d(nn.Conv2d):
    """Convolution of images (`conv2d`) with PyTorch's parameters and initial values.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K.
        stride: s.
        padding: p, rows and columns of zeros on each side.
        dilation: d.
        groups: G; must divide both numbers of channels.
        bias: Whether each output channel has a bias.
        implementation: PyTorch's kernel or `conv2d`.

    Raises:
        ValueError: Channels that aren't a multiple of the groups; unknown implementation.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        implementation: LayerImplementation = "fused",
    ) -> None:
        check_choice("implementation", implementation, LayerImplementation)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name} {channels} is not a multiple of groups {groups}")
        window: dict[str, Any] = {
            "stride": _pair(stride),
            "padding": _pair(padding),
            "dilation": _pair(dilation),
            "groups": groups,
        }
        super().__init__(in_channels, out_channels, _pair(kernel_size), bias=bias, **window)
        self.window = window
        self.implementation = implementation

    def forward(self, images: Tensor) -> Tensor:
        """Convolve: (B, C, H, W) → (B, O, H', W')."""
        if self.implementation == "fused":
            return super().forward(images)
        return conv2d(images, self.weight, self.bias, **self.window)


class MaxPool2d(nn.Module):
    """Max-pooling of images (`max_pool2d`).

    Args:
        kernel_size: K.
        stride: s; the kernel size by default, which gives disjoint windows.
        padding: p, at most half of the kernel.
        dilation: d.
        implementation: PyTorch's kernel or `max_pool2d`.

    Raises:
        ValueError: Unknown implementation.
    """

    def __init__(
        self,
        *,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, LayerImplementation)
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(kernel_size if stride is None else stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.implementation = implementation

    def forward(self, images: Tensor) -> Tensor:
        """Pool: (B, C, H, W) → (B, C, H', W')."""
        pool = F.max_pool2d if self.implementation == "fused" else max_pool2d
        return pool(
            images, self.kernel_size, stride=self.stride, padding=self.padding, dilation=self.dilation
        )


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
