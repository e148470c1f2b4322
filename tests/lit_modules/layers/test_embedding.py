import math

import pytest
import torch
import torch.nn as nn

from lit_modules.layers.embedding import added_positions, embed
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions


def test_kinds_of_positions():
    learned = added_positions("learned", max_length=7, width=6)
    assert isinstance(learned, LearnedPositions)
    assert learned.table.weight.shape == (7, 6)
    assert isinstance(added_positions("sinusoidal", max_length=7, width=6), SinusoidalPositions)
    assert added_positions("none", max_length=7, width=6) is None
    assert added_positions("rotary", max_length=7, width=6) is None
    with pytest.raises(ValueError, match="position is 'absolute', expected one of 'learned'"):
        added_positions("absolute", max_length=7, width=6)


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "none"])
def test_an_embedding_is_the_scaled_token_and_its_place(kind: str):
    torch.manual_seed(0)
    table, tokens = nn.Embedding(5, 6).double(), torch.tensor([[3, 1, 1], [0, 4, 2]])
    positions = torch.tensor([[0, 1, 2], [5, 0, 5]])
    added = added_positions(kind, max_length=7, width=6)
    result = embed(tokens, positions, embedding=table, added=added)
    expected = torch.stack([table.weight[token] for token in tokens.flatten()]).view(2, 3, 6)
    if kind == "sinusoidal":
        expected = expected * math.sqrt(6)
    if added is not None:
        expected = expected + added(positions.flatten()).view(2, 3, 6)
    torch.testing.assert_close(result, expected.to(result.dtype))
