import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_modules.layers.cell_loop import CellLoop

STACKS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
KINDS = pytest.mark.parametrize("cell", STACKS)


def pair(cell: Any, **options: Any) -> tuple[CellLoop, nn.RNNBase]:
    """A loop and PyTorch's stack, drawn from the same random state."""
    torch.manual_seed(3)
    loop = CellLoop(cell=cell, input_size=5, hidden_size=4, num_layers=2, **options)
    torch.manual_seed(3)
    return loop, STACKS[cell](5, 4, num_layers=2, batch_first=True)


def random_state(cell: str, rows: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(2, rows, 4, generator=generator) for _ in range(2 if cell == "lstm" else 1))


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@KINDS
@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
@pytest.mark.parametrize("started", [False, True])
def test_a_loop_over_cells_is_pytorchs_layer(cell: str, implementation: Any, started: bool) -> None:
    loop, stack = pair(cell, implementation=implementation)
    inputs = torch.randn(3, 7, 5)
    state = random_state(cell, 3) if started else None
    outputs, after = loop(inputs, state)
    bare = state[0] if state is not None and cell != "lstm" else state
    expected, expected_after = stack(inputs, bare)
    torch.testing.assert_close(outputs, expected)
    for part, expected_part in zip(after, as_tuple(expected_after), strict=True):
        torch.testing.assert_close(part, expected_part)
    # Their parameters come in the same order, so their gradients can be compared one by one.
    weights = torch.randn_like(outputs)
    (outputs * weights).sum().backward()
    (expected * weights).sum().backward()
    for own, other in zip(loop.parameters(), stack.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


@KINDS
def test_padding_behind_a_row_leaves_its_state_and_gives_zeros(cell: str) -> None:
    loop, _ = pair(cell)
    inputs, state = torch.randn(3, 6, 5), random_state(cell, 3)
    lengths = torch.tensor([6, 1, 4])
    outputs, after = loop(inputs, state, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, alone_after = loop(
            inputs[row : row + 1, :length], tuple(part[:, row : row + 1] for part in state)
        )
        torch.testing.assert_close(outputs[row : row + 1, :length], alone)
        assert not outputs[row, length:].any()
        for part, alone_part in zip(after, alone_after, strict=True):
            torch.testing.assert_close(part[:, row : row + 1], alone_part)


def test_padding_counts_from_zeros_where_there_is_no_state() -> None:
    loop, _ = pair("lstm")
    inputs = torch.randn(2, 4, 5)
    outputs, after = loop(inputs, lengths=torch.tensor([4, 2]))
    again, after_again = loop(
        inputs, tuple(torch.zeros(2, 2, 4) for _ in range(2)), lengths=torch.tensor([4, 2])
    )
    torch.testing.assert_close(outputs, again)
    torch.testing.assert_close(after, after_again)


def test_dropout_is_between_the_layers_and_in_training_only() -> None:
    torch.manual_seed(0)
    loop = CellLoop(cell="gru", input_size=5, hidden_size=4, num_layers=2, dropout=0.5)
    inputs = torch.randn(2, 3, 5)
    assert not torch.equal(loop(inputs)[0], loop(inputs)[0])
    one_layer = CellLoop(cell="gru", input_size=5, hidden_size=4, dropout=0.5)
    assert torch.equal(one_layer(inputs)[0], one_layer(inputs)[0])
    loop.eval()
    plain = copy.deepcopy(loop)
    plain.dropout.p = 0.0
    assert torch.equal(loop(inputs)[0], plain(inputs)[0])


def test_works_in_double_precision() -> None:
    loop, stack = pair("gru")
    inputs = torch.randn(2, 3, 5, dtype=torch.float64)
    outputs, _ = loop.double()(inputs)
    torch.testing.assert_close(outputs, stack.double()(inputs)[0], rtol=1e-12, atol=1e-12)


def test_refuses_an_unknown_cell_and_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"cell is 'tanh', expected one of 'rnn', 'gru', 'lstm'"):
        CellLoop(cell="tanh", input_size=5, hidden_size=4)  # type: ignore[arg-type]
    loop, _ = pair("rnn")
    for shape in ((3, 5), (3, 0, 5)):
        with pytest.raises(ValueError, match=r"expected \(batch, steps ≥ 1, width\)"):
            loop(torch.zeros(shape))
