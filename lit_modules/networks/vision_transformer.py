"""A transformer encoder that reads an image as a sequence of patches.

Shape letters: B images, C channels, P side of a patch, T patches, W width of the model, K classes.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.networks.pooled_encoder import PooledEncoder, Pooling

PatchPositions = Literal["learned", "sinusoidal", "none"]


class VisionTransformer(nn.Module):
    """logits = head(pool(encoder(patches W_p + b_p [+ positions]))).

    ::

        image (C, H, W) ─ P×P patches, each one linear map ─ + positions ─ encoder ─ pool ─ linear ─ logits

    Patches come in reading order, row by row. `learned` positions are one vector for each place;
    `sinusoidal` ones are 2-D: the first half of the channels tells the row, the second the column. Rotary
    positions, which belong to `options`, turn by the patch's number in reading order.

    Args:
        options: What the layers have in common.
        depth: Number of layers.
        image_shape: (C, H, W) of one image.
        patch_size: P, which divides height and width.
        num_classes: K.
        positions: What is added to the patches' embeddings.
        pooling: How the patches become one vector.

    Raises:
        ValueError: patches that don't divide the image; 2-D sinusoidal positions of an odd width.

    Source:
        Dosovitskiy et al. 2021, "An image is worth 16×16 words", eq. 1–4; 2-D sinusoidal positions: Chen,
        Xie, He 2021, "An empirical study of training self-supervised vision transformers".
    """

    def __init__(
        self,
        options: TransformerOptions,
        *,
        depth: int,
        image_shape: Sequence[int],
        patch_size: int,
        num_classes: int,
        positions: PatchPositions = "learned",
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        check_choice("positions", positions, PatchPositions)
        self.grid = _grid(image_shape, patch_size)
        self.patches = nn.Conv2d(image_shape[0], options.width, patch_size, stride=patch_size)
        self.positions: LearnedPositions | GridPositions | None = None
        if positions == "learned":
            self.positions = LearnedPositions(self.grid[0] * self.grid[1], options.width)
        elif positions == "sinusoidal":
            self.positions = GridPositions(options.width)
        self.dropout = Dropout(options.dropout)
        self.trunk = PooledEncoder(options, depth=depth, pooling=pooling)
        self.head = nn.Linear(options.width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The pooled patches, (B, W), of images (B, C, H, W)."""
        x = self.patches(images).flatten(2).transpose(1, 2)  # (B, T, W)
        if isinstance(self.positions, GridPositions):
            x = x + self.positions(*self.grid, device=x.device, dtype=x.dtype)
        elif self.positions is not None:
            x = x + self.positions(torch.arange(x.shape[1], device=x.device))
        return self.trunk(self.dropout(x))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.head(self.features(images))


class GridPositions(nn.Module):
    """Sinusoidal positions of a grid's places in reading order: those of the row, then of the column.

    Args:
        width: W, even: half of the channels for each.

    Raises:
        ValueError: an odd width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"2-D positions take half of the channels for each axis: width {width} is odd")
        self.axis = SinusoidalPositions(width // 2)

    def forward(self, rows: int, columns: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """What to add to the embeddings, (rows · columns, W)."""
        row, column = (self.axis(torch.arange(n, device=device), dtype=dtype) for n in (rows, columns))
        return torch.cat([row.repeat_interleave(columns, dim=0), column.repeat(rows, 1)], dim=-1)


def _grid(image_shape: Sequence[int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape is {tuple(image_shape)}, expected (channels, height, width)")
    _, height, width = image_shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size {patch_size} doesn't divide images of {height}×{width}")
    return height // patch_size, width // patch_size
