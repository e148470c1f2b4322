"""Random changes of image batches as tensor code, without a loop over images and with one resampling.

Images are (B, C, H, W) with pixel values 0 … 255, uint8 or float. Pixels from outside the image are 0. All
random numbers come from the given generator, which is on the device of the images.

B batch · C channels · H height · W width · K nodes of the elastic lattice
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.configs.mnist import AugmentConfig


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Apply the changes of the config: flip, then geometric changes, then erase.

    Rotation, scale, shear, shift and the elastic field form one grid, so an image is interpolated only once.
    A shift alone copies whole pixels.

    Returns:
        Images (B, C, H, W): float if they were resampled, otherwise of the input dtype.
    """
    count, device = len(images), images.device
    if config.flip:
        images = flip(images, _uniform(count, generator, device) < config.flip)
    if config.rotation or config.scale or config.shear or config.elastic:
        draws = torch.rand(count, 3, generator=generator, device=device)  # (B, 3) in [0, 1)
        reach = _reach(config.rotation, config.scale, config.shear, device)
        rotation, scale, shear = draws.mul_(2).sub_(1).mul_(reach).unbind(1)
        matrix = inverse_affine(rotation=rotation, scale=1 + scale, shear=shear)
        field = None
        if config.elastic:
            field = elastic_field(images, config.elastic, config.elastic_sigma, generator)
        images = warp(images, matrix, _shifts(count, config.shift, generator, device), field)
    elif config.shift:
        images = shift(images, _shifts(count, config.shift, generator, device), limit=config.shift)
    if config.erase:
        places = torch.rand(count, 2, generator=generator, device=device)
        images = erase(images, places, config.erase)
    return images


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise pixels 0 … 255 to (pixel / 255 − mean) / std of each channel, float32.

    Args:
        images: (B, C, H, W), uint8 or float.
        mean: Mean of each channel, for pixels scaled to [0, 1].
        std: Standard deviation of each channel, for the same pixels.
    """
    if len(mean) == 1:
        return (images * (1 / (255 * std[0]))).sub_(mean[0] / std[0])
    means, stds = (_of_channels(tuple(values), images.device) for values in (mean, std))
    return (images / (255 * stds)).sub_(means / stds)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Flip the images horizontally for which `chosen` (B,) is true."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def shift(images: Tensor, by: Tensor, *, limit: int) -> Tensor:
    """Move each image by whole pixels.

    Args:
        images: (B, C, H, W).
        by: Integer (B, 2), shifts down and to the right; negative values shift up and to the left.
        limit: Largest absolute value in `by`.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, [limit] * 4)  # (B, C, H + 2·limit, W + 2·limit)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view (B, C, 2·limit+1, 2·limit+1, H, W)
    corner = limit - by
    every = torch.arange(len(images), device=images.device)
    return windows.transpose(0, 1)[:, every, corner[:, 0], corner[:, 1]].transpose(0, 1)  # (B, C, H, W)


def inverse_affine(*, rotation: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Build for each image the matrix from a position in the result to its position in the source.

    The forward map is rotation · shear along x · scale about the centre of the image, as in torchvision's
    `affine`, in coordinates (x, y) with y downwards.

    Args:
        rotation: Clockwise angles in radians, (B,).
        scale: Factors, (B,).
        shear: Angles in radians, (B,).

    Returns:
        (B, 2, 2): (1/scale) · [[1, tan shear], [0, 1]] · [[cos, sin], [−sin, cos]].
    """
    cos, sin, slant = rotation.cos() / scale, rotation.sin() / scale, shear.tan()
    entries = [torch.addcmul(cos, slant, sin, value=-1), torch.addcmul(sin, slant, cos), -sin, cos]
    return torch.stack(entries, dim=1).view(-1, 2, 2)


def elastic_field(images: Tensor, strength: float, sigma: float, generator: torch.Generator) -> Tensor:
    """Sample a smooth displacement of every pixel (Simard, Steinkraus and Platt, 2003, section 2).

    White noise on a lattice with one node every `sigma` pixels is smoothed by a Gaussian of that width. This
    equals smoothed per-pixel noise except for negligible high frequencies, but needs far fewer random
    numbers.

    Args:
        images: (B, C, H, W); only the shape and the device are used.
        strength: Standard deviation of the displacement of every pixel, in pixels.
        sigma: Width of the Gaussian in pixels.
        generator: Random generator on the device of the images.

    Returns:
        Displacements along x and y in pixels, (B, 2, H, W).
    """
    batch, _, height, width = images.shape
    rows = _lattice_kernel(height, sigma, images.device)  # (H, K_rows)
    columns = _lattice_kernel(width, sigma, images.device)  # (W, K_columns)
    nodes = (rows.shape[1], columns.shape[1])
    noise = torch.randn(batch, 2, *nodes, generator=generator, device=images.device)
    return rows @ noise @ (strength * columns.T)


def warp(images: Tensor, matrix: Tensor, by: Tensor, field: Tensor | None = None) -> Tensor:
    """Resample each image bilinearly at matrix · (position − shift) + field, relative to its centre.

    Args:
        images: (B, C, H, W).
        matrix: (B, 2, 2) from `inverse_affine`.
        by: (B, 2), shifts of the result down and to the right, in pixels.
        field: (B, 2, H, W) from `elastic_field`.

    Returns:
        Float (B, C, H, W).
    """
    height, width = images.shape[2:]
    x, y, to_frame = _frame(height, width, images.device)  # (W,), (H,) and (2, 1)
    theta = matrix * to_frame  # (B, 2, 2)
    # The grid is built as planes of x and y by one broadcast sum, with the field added in place. This is many
    # times faster than F.affine_grid, and grid_sample accepts its strides.
    along_row = theta[:, :, 0:1] * (x - by[:, 1:]).unsqueeze(1)  # (B, 2, W)
    along_column = theta[:, :, 1:] * (y - by[:, :1]).unsqueeze(1)  # (B, 2, H)
    planes = along_row.unsqueeze(2) + along_column.unsqueeze(3)  # (B, 2, H, W)
    if field is not None:
        planes.addcmul_(field, to_frame.view(2, 1, 1))
    grid = planes.permute(0, 2, 3, 1)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Erase one square of each image (cutout, DeVries and Taylor, 2017); it may extend beyond the border.

    Args:
        images: (B, C, H, W).
        places: (B, 2) in [0, 1), the centre of the square relative to height and width.
        size: Side of the square in pixels.
    """
    inside = []
    for axis, length in enumerate(images.shape[-2:]):
        start = (places[:, axis] * length).floor().sub_(size // 2).unsqueeze(1)  # (B, 1)
        pixel = torch.arange(length, device=images.device)
        inside.append((pixel >= start) & (pixel < start + size))  # (B, H) and (B, W)
    square = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)  # (B, H, W)
    return images.masked_fill(square.unsqueeze(1), 0)


def _uniform(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=device)


@lru_cache(maxsize=8)
def _reach(rotation: float, scale: float, shear: float, device: torch.device) -> Tensor:
    """Return the largest rotation (radians), scale change and shear (radians), (3,)."""
    return torch.tensor([math.radians(rotation), scale, math.radians(shear)], device=device)


@lru_cache(maxsize=8)
def _of_channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return one value for each channel, (C, 1, 1)."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


def _shifts(count: int, limit: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(-limit, limit + 1, (count, 2), generator=generator, device=device)


@lru_cache(maxsize=8)
def _lattice_kernel(length: int, sigma: float, device: torch.device) -> Tensor:
    """Return the weights (length, K) of the lattice nodes at each pixel; rows have Euclidean norm 1."""
    reach = 3  # beyond three sigma the weight of the Gaussian is about 1 %
    nodes = torch.arange(-reach, math.ceil((length - 1) / sigma) + reach + 1, device=device) * sigma  # (K,)
    distance = torch.arange(length, device=device).unsqueeze(1) - nodes  # (length, K)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.norm(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def _frame(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return each pixel's x (W,) and y (H,) from the centre, and grid_sample's units per pixel (2, 1)."""
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    return x, y, torch.tensor([[2 / width], [2 / height]], device=device)  # which go from −1 to 1
