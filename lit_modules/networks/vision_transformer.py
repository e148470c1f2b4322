"""A transformer encoder on patches of an image.

Shape letters: B images, C channels, P side of a patch, T patches, W width of the model, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.image_classifier import VisionTransformerConfig
from lit_modules.configs.transformer import Position
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.initialisation import draw_weights
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.networks.pooled_encoder import PooledEncoder


class VisionTransformer(nn.Module):
    """logits = head(pool(encoder(patches W_p + b_p [+ positions]))).

        image (C, H, W) ─ P×P patches, each one linear map ─ + positions ─ encoder ─ pool ─ linear ─ logits

    Patches are ordered row by row. `learned` positions have one vector for each patch. `sinusoidal` positions
    are 2-D: the first half of the channels encodes the row, the second half the column. `rotary` positions
    rotate by the index of the patch.

    Args:
        config: The architecture and the initial weights; the patch projection keeps PyTorch's initial weights
            of a convolution.
        image_shape: (C, height, width) of one image.
        num_classes: K.

    Raises:
        ValueError: Patches that don't divide the image; 2-D sinusoidal positions with an odd width.

    Source:
        Dosovitskiy et al. 2021, "An image is worth 16×16 words", eq. 1–4; 2-D sinusoidal positions: Chen,
        Xie, He 2021, "An empirical study of training self-supervised vision transformers".
    """

    def __init__(
        self,
        config: VisionTransformerConfig,
        *,
        image_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        patch_size = config.patch_size
        self.grid = _grid(image_shape, patch_size)
        blocks = building_blocks(config.implementation)
        self.patches = blocks.conv2d(image_shape[0], config.width, patch_size, stride=patch_size)
        check_choice("position", config.position, Position)
        self.positions: LearnedPositions | GridPositions | None = None
        if config.position == "learned":
            self.positions = LearnedPositions(
                self.grid[0] * self.grid[1], config.width, implementation=config.implementation
            )
        elif config.position == "sinusoidal":
            self.positions = GridPositions(config.width)
        self.dropout = Dropout(config.dropout)
        self.trunk = PooledEncoder(config)
        self.head = blocks.linear(config.width, num_classes)
        draw_weights(self, config)

    def features(self, images: Tensor) -> Tensor:
        """Encode images: (B, C, height, width) → (B, W)."""
        x = self.patches(images).flatten(2).transpose(1, 2)  # (B, T, W)
        if isinstance(self.positions, GridPositions):
            x = x + self.positions(*self.grid, device=x.device, dtype=x.dtype)
        elif self.positions is not None:
            x = x + self.positions(torch.arange(x.shape[1], device=x.device))
        return self.trunk(self.dropout(x))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits: (B, C, height, width) → (B, K)."""
        return self.head(self.features(images))


class GridPositions(nn.Module):
    """2-D sinusoidal positions: half of the channels encode the row, the other half the column.

    Args:
        width: W, even.

    Raises:
        ValueError: An odd width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(
                f"2-D positions use half of the channels for each axis, but width {width} is odd"
            )
        self.axis = SinusoidalPositions(width // 2)

    def forward(self, rows: int, columns: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the positions in row order, (rows · columns, W)."""
        row, column = (self.axis(torch.arange(n, device=device), dtype=dtype) for n in (rows, columns))
        return torch.cat([row.repeat_interleave(columns, dim=0), column.repeat(rows, 1)], dim=-1)


def _grid(image_shape: Sequence[int], patch_size: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of patches."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape is {tuple(image_shape)}, expected (channels, height, width)")
    _, height, width = image_shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size {patch_size} doesn't divide images of {height}×{width}")
    return height // patch_size, width // patch_size
