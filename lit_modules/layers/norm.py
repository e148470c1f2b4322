"""Layer norm, RMS norm and batch norm: by hand, and with PyTorch's kernels.

By hand, half precision is computed in fp32 and rounded once at the end.

Shape letters: B or N batch, T tokens, C channels, F features.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.normalization import rms_norm
from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice

BatchNormLayout = Literal["features_last", "channels_first"]


class LayerNorm(nn.Module):
    """y = (x − mean) / √(var + ε) · weight + bias, over one or several last dimensions.

    The variance is biased (divided by n, not n − 1), and ε is inside the root.

    Args:
        normalized_shape: The size of the last dimension, or the sizes of several.
        eps: ε.
        bias: Whether to learn a shift; the scale is always learned.
        implementation: `fused` is `torch.nn.functional.layer_norm`.

    Raises:
        ValueError: Unknown implementation.

    Source: Ba, Kiros, Hinton 2016, "Layer normalization", eq. 4.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        bias: bool = True,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, LayerImplementation)
        sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = sizes
        self.eps = eps
        self.implementation = implementation
        self.weight = nn.Parameter(torch.ones(self.normalized_shape))
        self.bias = nn.Parameter(torch.zeros(self.normalized_shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, *normalized_shape); shape and type stay the same.

        Raises:
            ValueError: Other last dimensions.
        """
        _check_last_dims(x, self.normalized_shape)
        if self.implementation == "fused":
            y = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
            return y.to(x.dtype)  # CUDA's autocast returns fp32
        dims = tuple(range(-len(self.normalized_shape), 0))
        wide = widen(x)
        centred = wide - wide.mean(dims, keepdim=True)
        centred = centred - centred.mean(dims, keepdim=True)  # removes the rounding error of the mean
        variance = centred.square().mean(dims, keepdim=True)
        y = centred * torch.rsqrt(variance + self.eps) * self.weight
        return (y if self.bias is None else y + self.bias).to(x.dtype)


class RMSNorm(nn.Module):
    """y = x / √(mean(x²) + ε) · weight [+ bias] over the last dimension; no mean is subtracted.

    With `partial` p the mean is over the first ⌈p · F⌉ features only (pRMSNorm); all features are scaled.

    Args:
        num_features: F.
        eps: ε, inside the root.
        partial: p, the share of features in the mean.
        bias: Whether to learn a shift; the scale is always learned.
        implementation: `fused` is `torch.nn.functional.rms_norm`, or `functional.normalization.rms_norm`
            where that is faster. With p < 1 it is always by hand.

    Raises:
        ValueError: `partial` outside (0, 1]; unknown implementation.

    Source: Zhang & Sennrich 2019, "Root mean square layer normalization", eq. 4 and section 3.3.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-6,
        partial: float = 1.0,
        bias: bool = False,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, LayerImplementation)
        if not 0 < partial <= 1:
            raise ValueError(f"partial is {partial}, expected 0 < partial ≤ 1")
        self.num_features = num_features
        self.num_measured = math.ceil(partial * num_features)
        self.eps = eps
        self.implementation = implementation
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, F); shape and type stay the same.

        Raises:
            ValueError: A last dimension other than F.
        """
        _check_last_dims(x, (self.num_features,))
        if self.implementation == "fused" and self.num_measured == self.num_features:
            if self._backward_is_slow(x):
                return rms_norm(x, (self.num_features,), self.weight, eps=self.eps)
            # The kernel needs one type; under autocast the input has a narrower type than the weight.
            wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
            y = F.rms_norm(wide, (self.num_features,), self.weight.to(wide.dtype), self.eps)
            return (y if self.bias is None else y + self.bias).to(x.dtype)
        wide = widen(x)
        mean_square = wide[..., : self.num_measured].square().mean(-1, keepdim=True)
        y = wide * torch.rsqrt(mean_square + self.eps) * self.weight
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def _backward_is_slow(self, x: Tensor) -> bool:
        """Tell whether to use our own derivative; on CPUs PyTorch has no kernel and takes 2–3 × as long."""
        needed = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        return needed and x.device.type == "cpu" and self.bias is None and not torch.compiler.is_compiling()


class BatchNorm(nn.Module):
    """y = (x − mean) / √(var + ε) · weight + bias, with statistics of each channel over all other dimensions.

    Training uses the biased variance of the batch (divided by n), and moves the running statistics towards
    the mean and the *unbiased* variance of the batch (divided by n − 1). Evaluation uses the running
    statistics. Parameters and buffers have the names of `torch.nn.BatchNorm1d`, so a `state_dict` fits both.

    Args:
        num_channels: C.
        eps: ε.
        momentum: Weight of the new batch: running ← (1 − momentum) · running + momentum · batch. None
            gives all batches the same weight.
        layout: `features_last` for (N, C) and (N, T, C), `channels_first` for (N, C) and (N, C, …).
        implementation: `fused` is `torch.nn.functional.batch_norm`.

    Raises:
        ValueError: Unknown layout or implementation.

    Source: Ioffe & Szegedy 2015, "Batch normalization", algorithms 1 and 2.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_channels: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        layout: BatchNormLayout = "features_last",
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("layout", layout, BatchNormLayout)
        check_choice("implementation", implementation, LayerImplementation)
        self.num_channels = num_channels
        self.eps = eps
        self.momentum = momentum
        self.layout = layout
        self.implementation = implementation
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C), (N, T, C) or (N, C, …); shape and type stay the same.

        Raises:
            ValueError: Too few dimensions; another number of channels; a single value per channel in
                training.
        """
        if x.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {tuple(x.shape)}")
        channel_dim = 1 if self.layout == "channels_first" else x.dim() - 1
        if x.shape[channel_dim] != self.num_channels:
            raise ValueError(
                f"{tuple(x.shape)} has {x.shape[channel_dim]} channels in the layout {self.layout}, "
                f"expected {self.num_channels}"
            )
        count = x.numel() // self.num_channels
        if self.training and count <= 1:
            raise ValueError(f"training needs more than one value per channel, got {tuple(x.shape)}")

        momentum = 0.0
        if self.training:
            self.num_batches_tracked += 1
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        if self.implementation == "fused":
            return self._fused(x, channel_dim, momentum)
        return self._by_hand(x, channel_dim, momentum, count)

    def _by_hand(self, x: Tensor, channel_dim: int, momentum: float, count: int) -> Tensor:
        wide = widen(x)
        dims = [d for d in range(x.dim()) if d != channel_dim]
        shape = [self.num_channels if d == channel_dim else 1 for d in range(x.dim())]
        if self.training:
            mean = wide.mean(dims)  # (C,)
            variance = (wide - mean.view(shape)).square().mean(dims)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        y = (wide - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _fused(self, x: Tensor, channel_dim: int, momentum: float) -> Tensor:
        flat = x if channel_dim == 1 else x.flatten(0, -2)  # PyTorch has channels first
        y = F.batch_norm(
            flat,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=momentum,
            eps=self.eps,
        )
        return y.view_as(x).to(x.dtype) if channel_dim != 1 else y.to(x.dtype)


def _check_last_dims(x: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(x.shape[-len(expected) :]) != expected:
        raise ValueError(f"the last dimensions of {tuple(x.shape)} aren't {expected}")
