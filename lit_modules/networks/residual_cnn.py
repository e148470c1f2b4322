"""A small residual convolutional network, from 8,000 parameters to a few million."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.residual import Residual


def residual_block(*, width: int, activation: str, implementation: LayerImplementation = "fused") -> Residual:
    """Build x + act(norm(conv(act(norm(conv(x)))))) with 3×3 convolutions; the shape stays the same.

    The branch ends with an activation and the sum has none, as in ResNet-9 (D. Page, "How to train your
    ResNet", 2018).

    Args:
        width: D, the channels of the feature maps (B, D, H, W).
        activation: Name of the activation, see `make_activation`.
        implementation: PyTorch's layers, or the same by hand.
    """
    blocks = building_blocks(implementation)
    layers: list[nn.Module] = []
    for _ in range(2):
        convolution = blocks.conv2d(width, width, 3, padding=1, bias=False)
        layers += [convolution, blocks.batch_norm2d(width), blocks.activation(activation)]
    return Residual(nn.Sequential(*layers))


class ResidualCNN(nn.Module):
    """Stages that halve the image, each followed by residual blocks; then pooling and a linear head.

        image ─ stage 1 ─ blocks ─ stage 2 ─ blocks ─ … ─ pool over places ─ dropout ─ linear ─ logits
        a stage: 3×3 convolution ─ 2×2 max-pool ─ norm ─ activation

    The norm follows the pooling, where it has a quarter of the values to process; unless a gain is negative,
    the function is the same. The first stage can use a convolution with stride 2 instead of max-pooling. This
    saves much time, because the first stage has the largest feature maps.

    Shape letters: B images, C channels, H height, W width, F width of the last stage, K classes.

    Args:
        image_shape: (C, H, W) of one image.
        num_classes: K.
        widths: Channels of each stage; each stage halves height and width.
        blocks: Number of residual blocks after each stage.
        stem_kernel: Side of the first convolution's kernel; must be odd.
        stem_stride: Stride of the first convolution; 2 replaces its max-pooling.
        pooling: How the last feature maps become one vector, `"max"` or `"mean"`.
        activation: `"relu"`, `"gelu"` or `"silu"`.
        dropout: Probability of dropping a pooled feature in training.
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: An image smaller than 8×8 or too small for the stages; an argument that is not one
            of its choices; `widths` and `blocks` differ in length.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        stem_kernel: int = 3,
        stem_stride: int = 1,
        pooling: Literal["max", "mean"] = "max",
        activation: str = "relu",
        dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        _check(image_shape, widths, blocks, stem_kernel, stem_stride, pooling)
        layers = building_blocks(implementation)
        stages: list[nn.Module] = []
        fan_in = image_shape[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            kernel, stride = (stem_kernel, stem_stride) if stage == 0 else (3, 1)
            stages.append(
                layers.conv2d(fan_in, width, kernel, stride=stride, padding=kernel // 2, bias=False)
            )  # (B, width, H, W)
            if stride == 1:
                stages.append(layers.max_pool2d(2))  # (B, width, H/2, W/2)
            stages += [layers.batch_norm2d(width), layers.activation(activation)]
            stages += [
                residual_block(width=width, activation=activation, implementation=implementation)
                for _ in range(depth)
            ]
            fan_in = width
        self.body = nn.Sequential(*stages)
        self.pooling = pooling
        self.dropout = layers.dropout(dropout)
        self.head = layers.linear(fan_in, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled activations of the last stage: (B, C, H, W) → (B, F)."""
        maps = self.body(images)  # (B, F, H', W')
        return maps.amax(dim=(2, 3)) if self.pooling == "max" else maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits: (B, C, H, W) → (B, K)."""
        return self.head(self.dropout(self.features(images)))


def _check(
    image_shape: Sequence[int],
    widths: Sequence[int],
    blocks: Sequence[int],
    stem_kernel: int,
    stem_stride: int,
    pooling: str,
) -> None:
    if len(image_shape) != 3 or min(image_shape[1:]) < 8:
        raise ValueError(
            f"image_shape is {tuple(image_shape)}, expected (channels, height, width) of at least 8×8"
        )
    if not widths or len(widths) != len(blocks):
        raise ValueError(
            f"widths {list(widths)} and blocks {list(blocks)} must have the same length, at least 1"
        )
    if min(image_shape[1:]) >> len(widths) == 0:
        height, width = image_shape[1:]
        raise ValueError(
            f"widths {list(widths)} halve the image {len(widths)} times, too often for {height}×{width}"
        )
    if stem_kernel % 2 == 0:
        raise ValueError(f"stem_kernel is {stem_kernel}, expected an odd number")
    if stem_stride not in (1, 2):
        raise ValueError(f"stem_stride is {stem_stride}, expected 1 or 2")
    if pooling not in ("max", "mean"):
        raise ValueError(f"pooling is {pooling!r}, expected 'max' or 'mean'")
