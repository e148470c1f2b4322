"""A small residual convolutional network, from 8,000 parameters to a few million."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lit_modules.layers.activations import make_activation
from lit_modules.layers.residual import Residual


def residual_block(*, width: int, activation: str) -> Residual:
    """x + act(norm(conv(act(norm(conv(x)))))) at constant width and size, with 3×3 convolutions.

    The branch ends in its activation and the sum has none, as in D. Page's ResNet-9 ("How to train your
    ResNet", 2018), whose branches are thus sparse corrections of what comes in.

    Args:
        width: Channels D of the maps (B, D, H, W).
        activation: Name of the activation, see `make_activation`.
    """
    layers: list[nn.Module] = []
    for _ in range(2):
        convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), make_activation(activation)]
    return Residual(nn.Sequential(*layers))


class ResidualCNN(nn.Module):
    """Stages that halve the image and widen it, each followed by residual blocks; then pool and classify.

    ::

        image ─ stage 1 ─ blocks ─ stage 2 ─ blocks ─ … ─ pool over places ─ dropout ─ linear ─ logits
        a stage: 3×3 convolution ─ 2×2 max-pool ─ norm ─ activation

    The norm comes after the pooling: the same function up to a negative gain, on a quarter of the values.
    The first stage may halve the image by a stride of its convolution; at one input channel this saves more
    time than accuracy, since it is the stage with the largest maps.

    Shape letters: B images, C channels, H height, W width, F last stage's width, K classes.

    Args:
        image_shape: (C, H, W) of one image.
        num_classes: K.
        widths: Channels of each stage; each stage halves height and width.
        blocks: Residual blocks after each stage.
        stem_kernel: Side of the first convolution, odd.
        stem_stride: 2 halves by the first convolution, 1 by max-pooling as in the other stages.
        pooling: How the places of the last maps become one vector, `"max"` or `"mean"`.
        activation: `"relu"`, `"gelu"` or `"silu"`.
        dropout: Probability that a pooled feature is zeroed in training.

    Raises:
        ValueError: The image is smaller than 8×8 or too small for so many stages, or an argument is not one
            of its choices, or `widths` and `blocks` differ in length.
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
    ) -> None:
        super().__init__()
        _check(image_shape, widths, blocks, stem_kernel, stem_stride, pooling)
        stages: list[nn.Module] = []
        fan_in = image_shape[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            kernel, stride = (stem_kernel, stem_stride) if stage == 0 else (3, 1)
            stages.append(
                nn.Conv2d(fan_in, width, kernel, stride=stride, padding=kernel // 2, bias=False)
            )  # (B, width, H, W)
            if stride == 1:
                stages.append(nn.MaxPool2d(2))  # (B, width, H/2, W/2)
            stages += [nn.BatchNorm2d(width), make_activation(activation)]
            stages += [residual_block(width=width, activation=activation) for _ in range(depth)]
            fan_in = width
        self.body = nn.Sequential(*stages)
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(fan_in, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations of the last stage, (B, F), of images (B, C, H, W)."""
        maps = self.body(images)  # (B, F, H', W')
        return maps.amax(dim=(2, 3)) if self.pooling == "max" else maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
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
            f"widths {list(widths)} and blocks {list(blocks)} must name the same stages, at least one"
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
