from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_modules.networks.recurrent_lm import RecurrentLM, StateCache

VOCABULARY = 6
KINDS = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
LOOP = pytest.mark.parametrize("loop", [False, True], ids=["layer", "cell_loop"])


def network(**options: Any) -> RecurrentLM:
    torch.manual_seed(5)
    settings: dict[str, Any] = {"hidden_size": 8, "num_layers": 2, "embedding_size": 3, **options}
    return RecurrentLM(vocab_size=VOCABULARY, **settings)


def tokens(rows: int = 3, steps: int = 10) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, steps), generator=torch.Generator().manual_seed(6))


@LOOP
@pytest.mark.parametrize("embedding_size", [None, 3], ids=["one_hot", "embedding"])
def test_logits_are_those_of_the_same_layers_put_together_by_hand(loop: bool, embedding_size: Any) -> None:
    net = network(loop=loop, embedding_size=embedding_size, cell="gru")
    torch.manual_seed(5)
    embedding = nn.Embedding(VOCABULARY, 3) if embedding_size else None
    gru = nn.GRU(embedding_size or VOCABULARY, 8, num_layers=2, batch_first=True)
    head = nn.Linear(8, VOCABULARY)
    read = F.one_hot(tokens(), VOCABULARY).float() if embedding is None else embedding(tokens())
    hidden, after = gru(read)
    cache = net.make_cache()
    torch.testing.assert_close(net(tokens(), cache=cache), head(hidden))
    torch.testing.assert_close(cache[0].state, (after,))


def test_a_one_hot_embedding_is_one_hot_input() -> None:
    """What an embedding layer learns: a matrix whose rows the tokens pick."""
    one_hot, embedded = network(embedding_size=None), network(embedding_size=VOCABULARY)
    embedded.load_state_dict({**one_hot.state_dict(), "embedding.weight": torch.eye(VOCABULARY)})
    torch.testing.assert_close(one_hot(tokens()), embedded(tokens()))


def test_without_a_read_out_the_state_is_the_logits() -> None:
    net = network(hidden_size=VOCABULARY, read_out=False, cell="rnn", num_layers=1)
    assert net.head is None
    cache = net.make_cache()
    logits = net(tokens(), cache=cache)
    torch.testing.assert_close(logits[:, -1], cache[0].state[0][0])
    assert logits.abs().max() <= 1
    with pytest.raises(ValueError, match=f"width must be the vocabulary size {VOCABULARY}, not 8"):
        network(read_out=False)


@KINDS
@LOOP
def test_chunks_with_a_carried_state_are_one_long_sequence(cell: Any, loop: bool) -> None:
    net, text = network(cell=cell, loop=loop), tokens()
    once, pieces = net.make_cache(), net.make_cache()
    whole = net(text, cache=once)
    parts = [net(chunk, cache=pieces) for chunk in text.split([1, 4, 3, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(pieces[0].state, once[0].state)


@KINDS
@LOOP
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(cell: Any, loop: bool, side: str) -> None:
    net, text = network(cell=cell, loop=loop), tokens()
    lengths, step = torch.tensor([10, 1, 6]), torch.arange(10)
    key_mask = step < lengths[:, None] if side == "right" else step >= 10 - lengths[:, None]
    started, batched = net.make_cache(), net.make_cache()
    net(text[:, :2], cache=started)
    batched[0].state = started[0].state
    logits = net(text, key_mask=key_mask, cache=batched)
    last = net(text, key_mask=key_mask, cache=[StateCache(started[0].state)], last_only=True)
    torch.testing.assert_close(last, logits[:, -1:])
    for row in range(3):
        alone = [StateCache(tuple(part[:, row : row + 1] for part in started[0].state))]
        expected = net(text[row, key_mask[row]][None], cache=alone)
        torch.testing.assert_close(logits[row, key_mask[row]][None], expected)
        torch.testing.assert_close(tuple(part[:, row : row + 1] for part in batched[0].state), alone[0].state)


@KINDS
def test_rows_of_a_state_can_be_dropped_repeated_and_moved(cell: Any) -> None:
    net, text = network(cell=cell), tokens()
    cache, rows = net.make_cache(), torch.tensor([2, 0, 2, 1])
    cache[0].reorder(rows)  # of nothing: nothing happens
    assert cache[0].state is None
    net(text[:, :6], cache=cache)
    cache[0].reorder(rows)
    torch.testing.assert_close(net(text[rows, 6:], cache=cache), net(text)[rows, 6:])


def test_dropout_on_all_inputs_in_training_only() -> None:
    net = network(num_layers=1, dropout=0.5)
    assert not torch.equal(net(tokens()), net(tokens()))
    net.eval()
    assert torch.equal(net(tokens()), net(tokens()))


def test_runs_under_autocast_and_in_double_precision() -> None:
    for cell in ("rnn", "gru", "lstm"):
        for loop in (False, True):
            net, text = network(cell=cell, loop=loop), tokens()
            exact, cache = net(text), net.make_cache()
            with torch.autocast("cpu", torch.bfloat16):
                net(text[:, :4], cache=cache)
                rest = net(text[:, 4:], cache=cache)
            torch.testing.assert_close(rest.float(), exact[:, 4:], atol=0.03, rtol=0.03)
            torch.testing.assert_close(net.double()(text).float(), exact)


def test_refuses_an_unknown_cell_and_a_state_of_other_rows() -> None:
    with pytest.raises(ValueError, match="cell is 'qrnn'"):
        network(cell="qrnn")
    net = network()
    cache = net.make_cache()
    net(tokens(rows=3), cache=cache)
    with pytest.raises(ValueError, match="2 rows given, but the state has 3"):
        net(tokens(rows=2), cache=cache)
    with pytest.raises(ValueError, match="lengths are"):
        net(tokens(rows=2), key_mask=torch.tensor([[True] * 10, [False] * 10]))
