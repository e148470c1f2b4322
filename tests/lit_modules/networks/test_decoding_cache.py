import pytest
import torch
from torch import Tensor

from lit_modules.layers.positional import RotaryPositions
from lit_modules.networks.decoding_cache import DecodingCache


def tagged(*names: str) -> Tensor:
    """Keys and values (B, T, 2, 1) that can be told apart: a letter's code, and its negative."""
    codes = torch.tensor([[float(ord(letter)) for letter in name] for name in names])
    return torch.stack([codes, -codes], dim=-1).unsqueeze(-1)


def letters(stored: Tensor) -> list[str]:
    return ["".join(chr(int(code)) for code in row.flatten()) for row in stored.abs()]


def put(cache: DecodingCache, *names: str, key_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    tokens = torch.zeros(len(names), len(names[0]), dtype=torch.long)
    rooms = cache.extend(tokens, key_mask).layers
    for number, room in enumerate(rooms):
        room.new.copy_(tagged(*names).transpose(1, 2) * (number + 1))
    assert bool((rooms[1].keys == 2 * rooms[0].keys).all())
    return rooms[0].keys, rooms[0].values


def make(
    capacity: int = 6, *, rotary: RotaryPositions | None = None, dtype: torch.dtype = torch.float32
) -> DecodingCache:
    return DecodingCache(capacity, depth=2, num_kv_heads=1, head_dim=1, dtype=dtype, rotary=rotary)


def test_keys_and_values_follow_each_other():
    cache = make()
    put(cache, "ab", "cd")
    keys, values = put(cache, "x", "y")
    assert letters(keys) == letters(values) == ["abx", "cdy"]
    assert keys.shape == (2, 1, 3, 1)
    assert bool((values == -keys).all())


def test_rows_know_their_positions_and_padding():
    cache = make()
    mask = torch.tensor([[True, True, True], [False, False, True]])
    place = cache.extend(torch.zeros(2, 3, dtype=torch.long), mask)
    assert place.positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    place = cache.extend(torch.zeros(2, 1, dtype=torch.long), None)
    assert place.positions.tolist() == [[3], [1]]
    assert place.visible.tolist() == [[[[True] * 4]], [[[False, False, True, True]]]]
    assert place.layers[0].new.shape == (2, 2, 1, 1)
    assert place.layers[1].keys.shape == (2, 1, 4, 1)


def test_a_mask_without_padding_is_no_mask():
    place = make().extend(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool))
    assert place.visible is None
    assert place.positions.tolist() == [0, 1, 2]


def test_columns_that_only_gone_rows_used_are_given_up():
    cache = make(4)
    put(cache, "abc", "..d", key_mask=torch.tensor([[True] * 3, [False, False, True]]))
    cache.reorder(torch.tensor([1, 1]))
    assert cache.length == 1
    for step, expected in enumerate(["dx", "dxx", "dxxx"]):
        keys, _ = put(cache, "x", "x")
        assert letters(keys) == [expected] * 2, step
    with pytest.raises(ValueError, match="the cache is full: its capacity is 4 tokens, and 5 are needed"):
        put(cache, "x", "x")


def test_rotations_are_those_of_the_positions():
    rotary = RotaryPositions(4, base=50.0)
    cache = make(5, rotary=rotary, dtype=torch.float64)
    cache.extend(torch.zeros(1, 2, dtype=torch.long), None)
    place = cache.extend(torch.zeros(1, 3, dtype=torch.long), None)
    expected = rotary(torch.arange(2, 5), dtype=torch.float64)
    torch.testing.assert_close(place.rotation.squeeze(1).real, expected.cos)
    torch.testing.assert_close(place.rotation.squeeze(1).imag, expected.sin)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="capacity is 0, expected at least 1"):
        make(0)
    cache = make()
    put(cache, "ab", "cd")
    with pytest.raises(ValueError, match="1 rows given, but the cache has 2"):
        put(cache, "x")
    with pytest.raises(ValueError, match="key_mask has shape"):
        make().extend(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool))
