import pytest
import torch
from torch import Tensor

from lit_modules.layers.kv_cache import ContextCache, DecoderLayerCache, KVCache, token_positions

CPU = torch.device("cpu")


def tokens(*rows: list[float]) -> Tensor:
    """(B, 1, T, 1) keys that carry a number to be known by."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, :, None]


def kept(cache: KVCache, *rows: list[float]) -> Tensor:
    """Appends and returns the keys so far as (B, S)."""
    key = tokens(*rows)
    keys, values, _ = cache.append(key, -key)
    assert torch.equal(values, -keys)
    return keys[:, 0, :, 0]


def test_rows_of_one_length_need_no_mask_and_no_new_storage():
    cache = KVCache(4)
    keys, _, visible = cache.append(tokens([1, 2], [3, 4]), tokens([1, 2], [3, 4]))
    assert visible is None
    address = keys.data_ptr()
    keys, _, visible = cache.append(tokens([5], [6]), tokens([5], [6]))
    assert visible is None
    assert keys[:, 0, :, 0].tolist() == [[1, 2, 5], [3, 4, 6]]
    assert keys.data_ptr() == address
    assert (cache.length, cache.row_lengths) == (3, None)


@pytest.mark.parametrize("padding", ["left", "right", "scattered"])
def test_padding_is_not_stored_wherever_it_stands(padding: str):
    nan = float("nan")  # would spread through any product, even with weight 0
    prompt, mask = {
        "left": ([nan, nan, 7.0], [0, 0, 1]),
        "right": ([7.0, nan, nan], [1, 0, 0]),
        "scattered": ([nan, 7.0, nan], [0, 1, 0]),
    }[padding]
    cache = KVCache(5)
    key_mask = torch.tensor([[1, 1, 1], mask], dtype=torch.bool)
    keys, _, visible = cache.append(tokens([1, 2, 3], prompt), tokens([1, 2, 3], prompt), key_mask)
    assert keys[:, 0, :, 0].tolist() == [[1, 2, 3], [7, 0, 0]]
    assert visible is not None
    assert visible[0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    real = mask.index(1)
    assert visible[1, 0, real].tolist() == [True, False, False]

    assert token_positions(1, cache=cache, device=CPU).tolist() == [[3], [1]]
    keys, _, visible = cache.append(tokens([4], [8]), tokens([4], [8]))
    assert keys[:, 0, :, 0].tolist() == [[1, 2, 3, 4], [7, 8, 0, 0]]
    assert visible is not None
    assert visible[:, 0, 0].tolist() == [[True] * 4, [True, True, False, False]]
    assert cache.row_lengths is not None
    assert cache.row_lengths.tolist() == [4, 2]


def test_a_row_that_has_ended_need_not_grow():
    cache = KVCache(3)
    kept(cache, [1, 2], [3, 4])
    one_ended = torch.tensor([[True], [False]])
    keys, _, _ = cache.append(tokens([5], [9]), tokens([5], [9]), one_ended)
    assert keys[:, 0, :, 0].tolist() == [[1, 2, 5], [3, 4, 0]]
    assert cache.length == 3


def test_a_mask_without_padding_changes_nothing():
    cache = KVCache(3)
    everything = torch.ones(1, 2, dtype=torch.bool)
    assert cache.positions(2, everything, device=CPU).tolist() == [0, 1]
    assert cache.append(tokens([1, 2]), tokens([1, 2]), everything)[2] is None
    assert cache.row_lengths is None


def test_positions_count_real_tokens():
    key_mask = torch.tensor([[False, True, True], [True, True, False]])
    assert token_positions(3, key_mask=key_mask, device=CPU).tolist() == [[0, 0, 1], [0, 1, 1]]
    assert token_positions(3, device=CPU).tolist() == [0, 1, 2]
    cache = KVCache(9)
    assert token_positions(3, key_mask=key_mask, cache=cache, device=CPU).tolist() == [[0, 0, 1], [0, 1, 1]]
    kept(cache, [1, 2], [3, 4])
    assert token_positions(2, cache=cache, device=CPU).tolist() == [2, 3]
    assert token_positions(3, key_mask=key_mask, cache=cache, device=CPU).tolist() == [[1, 2, 3], [2, 3, 3]]


@pytest.mark.parametrize("ragged", [False, True])
def test_reordered_rows_go_on_as_their_parents(ragged: bool):
    """Beam search: 2 rows become 3, swap parents, shrink to 1."""
    cache = KVCache(6)
    key_mask = torch.tensor([[True, True], [True, not ragged]])
    cache.append(tokens([1, 2], [3, 4]), tokens([1, 2], [3, 4]) * -1, key_mask)
    cache.reorder(torch.tensor([1, 0, 1]))
    grown = kept(cache, [5], [6], [7])
    assert grown.tolist() == (
        [[3, 5, 0], [1, 2, 6], [3, 7, 0]] if ragged else [[3, 4, 5], [1, 2, 6], [3, 4, 7]]
    )
    cache.reorder(torch.tensor([2, 2, 0]))
    assert [row[-2:] for row in kept(cache, [8], [8], [8]).tolist()] == [[7, 8], [7, 8], [5, 8]]
    cache.reorder(torch.tensor([1]))
    assert kept(cache, [9]).tolist() == ([[3, 7, 8, 9]] if ragged else [[3, 4, 7, 8, 9]])


def test_full_is_full_and_leaves_the_cache_as_it_was():
    cache = KVCache(2)
    kept(cache, [1], [2])
    with pytest.raises(ValueError, match="its capacity is 2 tokens, and 3 are needed"):
        kept(cache, [1, 1], [2, 2])
    assert kept(cache, [5], [6]).tolist() == [[1, 5], [2, 6]]
    ragged = KVCache(2)
    ragged.append(tokens([1, 1], [2, 2]), tokens([1, 1], [2, 2]), torch.tensor([[True, True], [True, False]]))
    with pytest.raises(ValueError, match="its capacity is 2 tokens, and 3 are needed"):
        kept(ragged, [1], [2])


def test_other_shapes_are_refused():
    cache = KVCache(2)
    kept(cache, [1], [2])
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 1\) don't match the cache \(2, 1, 2, 1\)"):
        kept(cache, [1])
    with pytest.raises(ValueError, match=r"shape \(2, 3\), the keys need \(2, 1\)"):
        cache.append(tokens([1], [2]), tokens([1], [2]), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="capacity is 0"):
        KVCache(0)


def test_a_context_is_kept_and_reordered_with_its_mask():
    cache = DecoderLayerCache(2)
    cache.reorder(torch.tensor([0]))  # nothing to do yet
    context = cache.cross_attention
    assert context.get() is None
    key, key_mask = tokens([1, 2], [3, 4]), torch.tensor([[True, True], [True, False]])
    context.fill(key, -key, key_mask)
    kept(cache.self_attention, [5], [6])
    cache.reorder(torch.tensor([1, 1, 0]))
    held = context.get()
    assert held is not None
    keys, values, mask = held
    assert keys[:, 0, :, 0].tolist() == [[3, 4], [3, 4], [1, 2]]
    assert torch.equal(values, -keys)
    assert mask is not None
    assert mask.tolist() == [[True, False], [True, False], [True, True]]
    assert kept(cache.self_attention, [7], [8], [9]).tolist() == [[6, 7], [6, 8], [5, 9]]

    unmasked = ContextCache()
    unmasked.fill(key, key, None)
    unmasked.reorder(torch.tensor([1]))
    held = unmasked.get()
    assert held is not None
    assert held[2] is None
    assert held[0].shape[0] == 1


def test_rows_that_keep_their_context_reorder_the_target_alone():
    cache = DecoderLayerCache(2)
    key = tokens([1, 2], [3, 4])
    cache.cross_attention.fill(key, -key, None)
    kept(cache.self_attention, [5], [6])
    cache.reorder(torch.tensor([1, 0]), same_context=True)
    held = cache.cross_attention.get()
    assert held is not None
    assert held[0] is key
    assert kept(cache.self_attention, [7], [8]).tolist() == [[6, 7], [5, 8]]
