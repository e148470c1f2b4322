import pytest
import torch

from lit_modules.layers.visibility import attention_mask, check_attention_shapes, check_key_mask, visible_keys


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 2, 9])
def test_visible_keys_equal_the_definition(is_causal: bool, window: int | None):
    positions = torch.tensor([[0, 4, 2], [-1, 3, 7]])  # −1: padding, before every key
    visible = visible_keys(positions, 5, is_causal=is_causal, window=window)
    assert visible.shape == (2, 1, 3, 5)
    for row, query, key in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(5)).tolist():
        distance = int(positions[row, query]) - key
        expected = (not is_causal or distance >= 0) and (window is None or abs(distance) < window)
        assert bool(visible[row, 0, query, key]) == expected
    assert torch.equal(visible[1, 0], visible_keys(positions[1], 5, is_causal=is_causal, window=window))


def test_without_rules_there_is_no_mask():
    assert attention_mask(3, 4, None, False, None, torch.device("cpu")) is None


def test_the_last_query_stands_at_the_last_key():
    causal = attention_mask(2, 4, None, True, None, torch.device("cpu"))
    assert causal is not None
    assert causal.tolist() == [[True, True, True, False], [True, True, True, True]]


@pytest.mark.parametrize(
    ("query", "key", "value", "message"),
    [
        ((2, 5, 6), (2, 4, 5, 6), (2, 4, 5, 6), r"query must be 4-D .* got \(2, 5, 6\)"),
        ((2, 4, 5, 6), (3, 4, 5, 6), (3, 4, 5, 6), "batch size or head width differs"),
        ((2, 4, 5, 6), (2, 4, 5, 8), (2, 4, 5, 8), "batch size or head width differs"),
        ((2, 4, 5, 6), (2, 4, 5, 6), (2, 4, 3, 6), "keys and values differ"),
        ((2, 4, 5, 6), (2, 3, 5, 6), (2, 3, 5, 6), "3 key heads don't divide 4 query heads"),
    ],
)
def test_shapes_that_do_not_fit(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], message: str
):
    with pytest.raises(ValueError, match=message):
        check_attention_shapes(torch.zeros(query), torch.zeros(key), torch.zeros(value), None, None)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(5, 7), "boolean .* got torch.float32"),
        (torch.ones(5, 6, dtype=torch.bool), r"mask \(5, 6\) is neither \(5, 7\)"),
        (torch.ones(2, 5, 7, dtype=torch.bool), r"mask \(2, 5, 7\)"),  # (B, T, S) would pass as (H, T, S)
        (torch.ones(2, 3, 5, 7, dtype=torch.bool), r"broadcastable to \(2, 4, 5, 7\)"),
    ],
)
def test_masks_that_do_not_fit(mask: torch.Tensor, message: str):
    query, key = torch.zeros(2, 4, 5, 6), torch.zeros(2, 4, 7, 6)
    with pytest.raises(ValueError, match=message):
        check_attention_shapes(query, key, key, mask, None)


def test_a_window_reaches_at_least_the_query_itself():
    query = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="window is 0"):
        check_attention_shapes(query, query, query, None, 0)


def test_key_masks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), the keys need \(2, 4\)"):
        check_key_mask(torch.ones(2, 3, dtype=torch.bool), 2, 4)
    with pytest.raises(ValueError, match=r"boolean .* got torch.int64"):
        check_key_mask(torch.ones(2, 4, dtype=torch.int64), 2, 4)
