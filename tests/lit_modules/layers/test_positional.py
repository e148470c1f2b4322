import math

import pytest
import torch

from lit_modules.layers.positional import LearnedPositions, RotaryPositions, SinusoidalPositions

LAYOUTS = ("half_split", "adjacent_pairs")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Sinusoidal


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sinusoidal_equals_the_formula_at_odd_widths_too(width: int):
    positions = torch.tensor([[0, 1, 7], [3, 100, 5000]])
    table = SinusoidalPositions(width, base=500.0)(positions, dtype=torch.float64)
    assert table.shape == (2, 3, width)
    for row, token, channel in torch.cartesian_prod(*(torch.arange(n) for n in table.shape)).tolist():
        angle = int(positions[row, token]) / 500.0 ** (2 * (channel // 2) / width)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert float(table[row, token, channel]) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_sinusoidal_offset_is_a_linear_map_of_the_table():
    """Section 3.5 of the paper: PE[p + k] = R(k) PE[p], for every p."""
    sinusoidal = SinusoidalPositions(6)
    table = sinusoidal(torch.arange(40), dtype=torch.float64)
    shifted = sinusoidal(torch.arange(3, 43), dtype=torch.float64)
    solution = torch.linalg.lstsq(table, shifted).solution
    torch.testing.assert_close(table @ solution, shifted, rtol=1e-8, atol=1e-8)


def test_sinusoidal_far_positions_keep_their_digits_in_half_precision():
    """Angles are computed in fp64: rounded to bf16 first, position 1001 would stand at 1000."""
    table = SinusoidalPositions(4)(torch.tensor([1000, 1001]), dtype=torch.bfloat16)
    assert table.dtype == torch.bfloat16
    expected = torch.tensor([math.sin(1000), math.sin(1001)]).bfloat16()
    assert torch.equal(table[:, 0], expected)


# Learned


def test_learned_positions_are_rows_of_the_table():
    learned = LearnedPositions(10, 4)
    positions = torch.tensor([[2, 3], [9, 0]])
    assert torch.equal(learned(positions), learned.table.weight[positions])
    assert torch.equal(learned(torch.arange(5)), learned.table.weight[:5])
    assert learned(torch.arange(0)).shape == (0, 4)


def test_learned_positions_end():
    with pytest.raises(ValueError, match="positions 3 … 10 exceed the 10 learned positions"):
        LearnedPositions(10, 4)(torch.arange(3, 11))


# Rotary


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", [10_000.0, 100_000.0, 7.0])
def test_rotary_equals_multiplication_by_a_complex_unit(layout: str, base: float):
    x, positions = normal(2, 3, 5, 8), torch.tensor([[0, 1, 2, 3, 4], [7, 100, 3, 3, 9]])
    angles = positions[..., None] * base ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    unit = torch.polar(torch.ones_like(angles), angles)[:, None]  # (B, 1, T, D/2)
    if layout == "half_split":
        turned = torch.complex(x[..., :4], x[..., 4:]) * unit
        expected = torch.cat([turned.real, turned.imag], dim=-1)
    else:
        turned = torch.complex(x[..., 0::2], x[..., 1::2]) * unit
        expected = torch.view_as_real(turned).flatten(-2)
    rotation = RotaryPositions(8, base=base, layout=layout)(positions, dtype=torch.float64)
    torch.testing.assert_close(rotation(x, order="BHTD"), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_depend_only_on_the_distance(layout: str):
    query, key = normal(1, 2, 6, 8), normal(1, 2, 6, 8, seed=1)
    rotary = RotaryPositions(8, layout=layout)

    def scores(offset: int) -> torch.Tensor:
        rotation = rotary(torch.arange(offset, offset + 6), dtype=torch.float64)
        return rotation(query, order="BHTD") @ rotation(key, order="BHTD").mT

    torch.testing.assert_close(scores(0), scores(1000), rtol=1e-10, atol=1e-10)
    same = query[:, :, :1].expand_as(query), key[:, :, :1].expand_as(key)  # one token everywhere …
    rotation = rotary(torch.arange(6), dtype=torch.float64)
    products = rotation(same[0], order="BHTD") @ rotation(same[1], order="BHTD").mT
    for distance in range(-5, 6):  # … so that each diagonal is constant, and they differ
        diagonal = products.diagonal(distance, dim1=-2, dim2=-1)
        torch.testing.assert_close(diagonal, diagonal[..., :1].expand_as(diagonal), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(products[..., 0, 1], products[..., 0, 2])


def test_the_layouts_are_a_permutation_of_channels_apart():
    x, positions = normal(2, 3, 5, 8), torch.arange(5)
    pairs_to_halves = torch.arange(8).view(4, 2).T.flatten()  # 0 2 4 6 1 3 5 7
    halves = RotaryPositions(8, layout="half_split")(positions, dtype=torch.float64)
    pairs = RotaryPositions(8, layout="adjacent_pairs")(positions, dtype=torch.float64)
    expected = pairs(x, order="BHTD")[..., pairs_to_halves]
    torch.testing.assert_close(halves(x[..., pairs_to_halves], order="BHTD"), expected, rtol=1e-10, atol=0)
    assert not torch.allclose(halves(x, order="BHTD"), pairs(x, order="BHTD"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [False, True])
def test_both_head_orders_agree_even_with_as_many_heads_as_tokens(layout: str, rows: bool):
    x = normal(2, 4, 4, 6)
    positions = torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8]]) if rows else torch.arange(4)
    rotation = RotaryPositions(6, layout=layout)(positions, dtype=torch.float64)
    rotated = rotation(x, order="BHTD")
    assert torch.equal(rotation(x.transpose(1, 2), order="BTHD").transpose(1, 2), rotated)
    assert not torch.allclose(rotation(x, order="BTHD"), rotated)


def test_the_wrong_head_order_is_noticed():
    rotation = RotaryPositions(6)(torch.arange(5))
    heads = torch.zeros(2, 4, 5, 6)
    with pytest.raises(ValueError, match=r"order BTHD has 4 tokens, the rotation has 5"):
        rotation(heads, order="BTHD")
    with pytest.raises(ValueError, match=r"order BHTD has 4 tokens, the rotation has 5"):
        rotation(heads.transpose(1, 2), order="BHTD")
    with pytest.raises(TypeError, match="order"):
        rotation(heads)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 5, 6), "4-D heads"),
        ((2, 4, 5, 8), "head width is 8, .* for 6"),
        ((3, 4, 5, 6), "3 rows, but the rotation has 2"),
    ],
)
def test_heads_that_do_not_fit(shape: tuple[int, ...], message: str):
    rotation = RotaryPositions(6)(torch.arange(5).expand(2, 5))
    with pytest.raises(ValueError, match=message):
        rotation(torch.zeros(shape), order="BHTD")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_position_zero_and_length_one(layout: str):
    x = normal(2, 3, 1, 4)
    rotation = RotaryPositions(4, layout=layout)(torch.tensor([0]), dtype=torch.float64)
    assert torch.equal(rotation(x, order="BHTD"), x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_is_rotated_in_fp32_and_rounded_once(layout: str):
    x, positions = normal(1, 2, 5, 8).bfloat16(), torch.arange(2000, 2005)
    rotary = RotaryPositions(8, layout=layout)
    exact = rotary(positions, dtype=torch.float64)(x.double(), order="BHTD")
    narrow = rotary(positions, dtype=torch.bfloat16)(x, order="BHTD")
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.double(), exact, rtol=2**-8, atol=1e-6)  # half a unit in the last place


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_the_inverse_rotation(layout: str):
    x = normal(1, 2, 3, 4).requires_grad_()
    rotation = RotaryPositions(4, layout=layout)(torch.tensor([1, 5, 9]), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rotation(x, order="BHTD"), x)
    rotated = rotation(x, order="BHTD")
    (gradient,) = torch.autograd.grad(rotated, x, grad_outputs=rotated.detach())
    torch.testing.assert_close(gradient, x.detach(), rtol=1e-10, atol=1e-12)


def test_wrong_widths_bases_and_layouts():
    with pytest.raises(ValueError, match="head width 5 isn't even"):
        RotaryPositions(5)
    with pytest.raises(ValueError, match="base is 0"):
        RotaryPositions(4, base=0)
    with pytest.raises(ValueError, match="layout is 'halves'"):
        RotaryPositions(4, layout="halves")
    with pytest.raises(ValueError, match="width is 0"):
        SinusoidalPositions(0)
    with pytest.raises(ValueError, match="base is -1"):
        SinusoidalPositions(4, base=-1)
