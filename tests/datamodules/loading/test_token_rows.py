"""Sequences as padded rows."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from datamodules.loading.token_rows import (
    PAD,
    SPECIAL,
    encoder,
    padded_rows,
    row_lengths,
    trimmed,
    vocabulary,
)

SEQUENCES = [[5, 6, 2], [2], [], [7, 7, 7, 7, 2], [3, 2]]


def test_rows_are_those_of_the_library() -> None:
    expected = pad_sequence([torch.tensor(s, dtype=torch.long) for s in SEQUENCES], batch_first=True)
    rows = padded_rows(SEQUENCES)
    assert rows.dtype == torch.long
    assert torch.equal(rows, expected)
    assert row_lengths(rows).tolist() == [3, 1, 0, 5, 2]


def test_a_width_can_be_asked_for() -> None:
    assert padded_rows(SEQUENCES, 9).shape == (5, 9)
    assert padded_rows([]).shape == (0, 0)
    with pytest.raises(ValueError, match="5 tokens doesn't fit into rows of 4"):
        padded_rows(SEQUENCES, 4)


def test_a_trimmed_batch_loses_only_padding() -> None:
    rows = padded_rows(SEQUENCES, 9)
    alternatives = rows.view(5, 1, 9).repeat(1, 3, 1)
    first, second = trimmed((rows, alternatives))
    assert (first.shape, second.shape) == ((5, 5), (5, 3, 5))
    assert torch.equal(first, rows[:, :5])
    assert (rows[:, 5:] == PAD).all()


def test_ids_are_places_in_the_vocabulary() -> None:
    symbols = vocabulary("hello")
    assert symbols == (*SPECIAL, "e", "h", "l", "o")
    assert encoder(symbols) == {"e": 3, "h": 4, "l": 5, "o": 6}
    assert encoder(vocabulary(["<pad>", "x"])) == {"<pad>": 3, "x": 4}  # somebody's phoneme, not ours
