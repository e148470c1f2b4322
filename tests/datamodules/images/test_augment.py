"""Batched augmentation against torchvision's own functions, one image at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from datamodules.configs.mnist import AugmentConfig
from datamodules.images.augment import (
    augment,
    elastic_field,
    erase,
    flip,
    inverse_affine,
    normalize,
    shift,
    warp,
)

EVERYTHING = AugmentConfig(shift=2, rotation=15, scale=0.2, shear=10, elastic=1.0, flip=0.5, erase=5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 6, channels: int = 1, height: int = 11, width: int = 14) -> Tensor:
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """Roll, and blank what came round."""
    image = image.roll((down, right), dims=(-2, -1))
    for axis, by in ((-2, down), (-1, right)):
        size = image.shape[axis]
        start, length = (0, by) if by > 0 else (size + by, -by)
        image.narrow(axis, start, length).zero_()
    return image


def test_off_is_the_identity() -> None:
    batch = images()
    assert augment(batch, AugmentConfig(), generator()) is batch


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_is_a_roll_filled_with_zeros(channels: int) -> None:
    by = torch.tensor([[0, 0], [3, -2], [-3, 3], [1, 0], [0, -1], [2, 2]])
    batch = images(channels=channels)
    result = shift(batch, by, limit=3)
    assert result.dtype == torch.uint8
    for image, ours, (down, right) in zip(batch, result, by.tolist(), strict=True):
        assert torch.equal(ours, moved(image, down, right))


def test_random_shifts_reach_every_offset_and_no_further() -> None:
    single = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    single[0, 0, 4, 4] = 1
    result = augment(single.expand(500, -1, -1, -1), AugmentConfig(shift=2), generator())
    assert torch.equal(result.sum(0)[0].nonzero(), torch.cartesian_prod(*[torch.arange(2, 7)] * 2))


def test_warp_agrees_with_a_shift() -> None:
    batch, by = images(), torch.tensor([[0, 0], [3, -2], [-3, 3], [1, 0], [0, -1], [2, 2]])
    identity = torch.eye(2).expand(6, 2, 2)
    torch.testing.assert_close(
        warp(batch, identity, by), shift(batch, by, limit=3).float(), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_is_torchvisions_affine(channels: int) -> None:
    batch = images(channels=channels).float()
    rotation = torch.tensor([0.0, 30.0, -75.0, 5.0, 180.0, 12.0])
    scale = torch.tensor([1.3, 1.0, 0.7, 1.1, 1.0, 0.9])
    shear = torch.tensor([0.0, 0.0, 20.0, -35.0, 0.0, 8.0])
    by = torch.tensor([[0, 0], [0, 0], [2, -1], [-3, 2], [1, 1], [0, 3]])
    matrix = inverse_affine(rotation=rotation.deg2rad(), scale=scale, shear=shear.deg2rad())
    ours = warp(batch, matrix, by)
    for i, image in enumerate(batch):
        theirs = TF.affine(
            image,
            angle=float(rotation[i]),
            translate=[int(by[i, 1]), int(by[i, 0])],
            scale=float(scale[i]),
            shear=[float(shear[i]), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(ours[i], theirs, atol=0.01, rtol=0)


def test_warp_by_a_field_is_the_sampling_of_displaced_pixels() -> None:
    batch = images(batch=2).float()
    field = torch.randint(-2, 3, (2, 2, 11, 14), generator=generator()).float()
    ours = warp(batch, torch.eye(2).expand(2, 2, 2), torch.zeros(2, 2, dtype=torch.long), field)
    padded = F.pad(batch, [2] * 4)
    for b in range(2):
        for y in range(11):
            for x in range(14):
                right, down = field[b, :, y, x].int().tolist()
                expected = padded[b, 0, y + 2 + down, x + 2 + right]
                torch.testing.assert_close(ours[b, 0, y, x], expected, atol=0.01, rtol=0)


def test_elastic_field_has_the_stated_strength_and_smoothness() -> None:
    """Its covariance is that of white noise blurred by a Gaussian: exp(−d² / (4 sigma²))."""
    sigma, strength = 3.0, 1.5
    field = elastic_field(torch.empty(4000, 1, 20, 24), strength, sigma, generator())  # (B, 2, 20, 24)
    flat = field.transpose(0, 1).flatten(2).double()  # (2, B, pixels)
    torch.testing.assert_close(flat.std(1).mean(), torch.tensor(strength).double(), rtol=0.02, atol=0)
    torch.testing.assert_close(flat.std(1), torch.full((2, 480), strength).double(), rtol=0.08, atol=0)
    for distance in (1, 3, 6):
        product = (field[..., 8, 5] * field[..., 8, 5 + distance]).mean() / strength**2
        expected = torch.exp(torch.tensor(-(distance**2) / (4 * sigma**2)))
        torch.testing.assert_close(product, expected, atol=0.04, rtol=0)
    across = (flat[0] * flat[1]).mean()
    assert across.abs() < 0.02, "the two directions must be independent"


def test_flip_mirrors_the_chosen_exactly() -> None:
    batch = images(channels=2)
    chosen = torch.tensor([True, False, True, True, False, False])
    for image, ours, mirrored in zip(batch, flip(batch, chosen), chosen, strict=True):
        assert torch.equal(ours, TF.hflip(image) if mirrored else image)


@pytest.mark.parametrize(("probability", "low", "high"), [(1.0, 1000, 1000), (0.25, 200, 300)])
def test_flip_probability(probability: float, low: int, high: int) -> None:
    batch = torch.tensor([[1, 0]], dtype=torch.uint8).view(1, 1, 1, 2).expand(1000, -1, -1, -1)
    flipped = augment(batch, AugmentConfig(flip=probability), generator())[:, 0, 0, 1].sum()
    assert low <= flipped <= high


@pytest.mark.parametrize("size", [1, 4, 5, 40])
def test_erase_blanks_one_square_about_its_place(size: int) -> None:
    batch = images(batch=50).clamp(min=1)
    places = torch.rand(50, 2, generator=generator())
    result = erase(batch, places, size)
    for image, ours, place in zip(batch, result, places, strict=True):
        expected = image.clone()
        top, left = int(place[0] * 11) - size // 2, int(place[1] * 14) - size // 2
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(ours, expected)


def test_the_same_generator_gives_the_same_images_and_another_gives_others() -> None:
    batch = images(height=28, width=28)
    first, again, other = (augment(batch, EVERYTHING, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("height", [8, 28])
def test_pixels_keep_their_range_and_the_input_is_left_alone(height: int) -> None:
    batch = images(height=height, width=height)
    kept = batch.clone()
    result = augment(batch, EVERYTHING, generator())
    assert result.shape == batch.shape
    assert result.min() >= 0
    assert result.max() <= 255.001
    assert torch.equal(batch, kept)


def test_one_image_is_a_batch() -> None:
    assert augment(images(batch=1), EVERYTHING, generator()).shape == (1, 1, 11, 14)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    augment(images(), EVERYTHING, generator())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("mean", "std"), [((0.13,), (0.31,)), ((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize_is_torchvisions(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
) -> None:
    batch = images(channels=len(mean))
    ours = normalize(batch.to(dtype), mean, std)
    assert ours.dtype == torch.float32
    theirs = TF.normalize(batch.float() / 255, list(mean), list(std))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
