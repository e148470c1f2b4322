"""Random changes of image batches as tensor code: no loop over images, one resampling at most.

Images are (B, C, H, W) with pixel values 0 … 255, uint8 or float; nothing outside the frame is brought in,
so what a change uncovers is 0. Randomness comes from the generator that is passed, on the images' device.

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
    """Apply what the config switches on: mirror, then move and bend, then erase.

    Rotation, scale, shear, shift and the elastic field compose into one grid, so an image is interpolated
    once. A shift alone copies whole pixels.

    Returns:
        Images (B, C, H, W): float where they were resampled, else of the type that came in.
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
    """Pixels 0 … 255 → (pixel / 255 − mean) / std of each channel, float32.

    Args:
        images: (B, C, H, W), uint8 or float.
        mean: Of each channel, for pixels scaled to [0, 1].
        std: Of each channel, for the same.
    """
    if len(mean) == 1:
        return (images * (1 / (255 * std[0]))).sub_(mean[0] / std[0])
    means = torch.tensor(mean, device=images.device).view(-1, 1, 1)
    stds = torch.tensor(std, device=images.device).view(-1, 1, 1)
    return (images / (255 * stds)).sub_(means / stds)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror left and right the images where `chosen` (B,) is true."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def shift(images: Tensor, by: Tensor, *, limit: int) -> Tensor:
    """Move each image by whole pixels.

    Args:
        images: (B, C, H, W).
        by: Integer (B, 2): how far down and how far right; negative is up and left.
        limit: No entry of `by` is larger in absolute value.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, [limit] * 4)  # (B, C, H + 2·limit, W + 2·limit)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view (B, C, 2·limit+1, 2·limit+1, H, W)
    corner = limit - by
    every = torch.arange(len(images), device=images.device)
    return windows.transpose(0, 1)[:, every, corner[:, 0], corner[:, 1]].transpose(0, 1)  # (B, C, H, W)


def inverse_affine(*, rotation: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """For each image, the matrix that takes a place in the result to the place it shows in the source.

    The forward map is rotation · shear along x · scale about the image's centre, as in torchvision's
    `affine`, in (x, y) with y downwards.

    Args:
        rotation: Radians clockwise, (B,).
        scale: Factors, (B,).
        shear: Radians, (B,).

    Returns:
        (B, 2, 2): (1/scale) · [[1, tan shear], [0, 1]] · [[cos, sin], [−sin, cos]].
    """
    cos, sin, slant = rotation.cos() / scale, rotation.sin() / scale, shear.tan()
    entries = [torch.addcmul(cos, slant, sin, value=-1), torch.addcmul(sin, slant, cos), -sin, cos]
    return torch.stack(entries, dim=1).view(-1, 2, 2)


def elastic_field(images: Tensor, strength: float, sigma: float, generator: torch.Generator) -> Tensor:
    """A smooth random displacement for every pixel (Simard, Steinkraus and Platt, 2003, section 2).

    White noise on a lattice with one node every `sigma` pixels, smoothed by a Gaussian of that width:
    the same field as smoothed per-pixel noise up to its vanishing high frequencies, from far fewer draws.

    Args:
        images: (B, C, H, W); only the shape and device matter.
        strength: Standard deviation of each displacement, in pixels, the same at every pixel.
        sigma: Width of the Gaussian in pixels.
        generator: On the images' device.

    Returns:
        (B, 2, H, W): along x and y, in pixels.
    """
    batch, _, height, width = images.shape
    rows = _lattice_kernel(height, sigma, images.device)  # (H, K_rows)
    columns = _lattice_kernel(width, sigma, images.device)  # (W, K_columns)
    nodes = (rows.shape[1], columns.shape[1])
    noise = torch.randn(batch, 2, *nodes, generator=generator, device=images.device)
    return rows @ noise @ (strength * columns.T)


def warp(images: Tensor, matrix: Tensor, by: Tensor, field: Tensor | None = None) -> Tensor:
    """Resample each image at matrix · (place − shift) + field, bilinearly, about its centre.

    Args:
        images: (B, C, H, W).
        matrix: (B, 2, 2) of `inverse_affine`.
        by: (B, 2): how far down and how far right the result is moved, in pixels.
        field: (B, 2, H, W) of `elastic_field`.

    Returns:
        Float (B, C, H, W).
    """
    height, width = images.shape[2:]
    x, y, to_frame = _frame(height, width, images.device)  # (W,), (H,) and (2, 1)
    theta = matrix * to_frame  # (B, 2, 2)
    # The grid is built as planes of x and of y, by one broadcast sum and with the field added in place: many
    # times faster than F.affine_grid, and grid_sample reads it by its strides.
    along_row = theta[:, :, 0:1] * (x - by[:, 1:]).unsqueeze(1)  # (B, 2, W)
    along_column = theta[:, :, 1:] * (y - by[:, :1]).unsqueeze(1)  # (B, 2, H)
    planes = along_row.unsqueeze(2) + along_column.unsqueeze(3)  # (B, 2, H, W)
    if field is not None:
        planes.addcmul_(field, to_frame.view(2, 1, 1))
    grid = planes.permute(0, 2, 3, 1)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Blank one square of each image (cutout, DeVries and Taylor, 2017); at the border part of it falls off.

    Args:
        images: (B, C, H, W).
        places: (B, 2) in [0, 1): where between top and bottom, left and right, the square's middle lies.
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
    """How far rotation (radians), scale and shear (radians) go from nothing, (3,)."""
    return torch.tensor([math.radians(rotation), scale, math.radians(shear)], device=device)


def _shifts(count: int, limit: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(-limit, limit + 1, (count, 2), generator=generator, device=device)


@lru_cache(maxsize=8)
def _lattice_kernel(length: int, sigma: float, device: torch.device) -> Tensor:
    """Weights (length, K) of the lattice's nodes at each pixel; each row has Euclidean norm 1."""
    reach = 3  # the Gaussian's weight beyond three sigma is about 1 %
    nodes = torch.arange(-reach, math.ceil((length - 1) / sigma) + reach + 1, device=device) * sigma  # (K,)
    distance = torch.arange(length, device=device).unsqueeze(1) - nodes  # (length, K)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.norm(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def _frame(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels' places, and what turns them into grid_sample's units.

    Returns:
        x (W,) and y (H,) of every column and row in pixels from the image's centre; and (2, 1), frame units
        per pixel along x and y, since grid_sample counts from −1 to 1 over the frame.
    """
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    return x, y, torch.tensor([[2 / width], [2 / height]], device=device)
