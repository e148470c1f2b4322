import pytest
import torch

from lit_modules.functional import blocks
from lit_modules.functional.blocks import join, row_blocks


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 1000), (1000, 7), (3, 10**6), (5, 0)])
def test_blocks_cover_every_row_in_order(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 2048)
    x = torch.empty(1).expand(shape)
    rows = torch.arange(shape[0])
    pieces = [rows[block] for block in row_blocks(x)]
    assert pieces
    assert torch.equal(torch.cat(pieces), rows)


def test_a_block_is_within_its_budget_or_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 100)
    budget = 100 * torch.get_num_threads()
    assert max(b.stop - b.start for b in row_blocks(torch.empty(500, 10))) == budget // 10
    assert [b.stop - b.start for b in row_blocks(torch.empty(4, 10 * budget))] == [1, 1, 1, 1]


def test_join_concatenates_blocks() -> None:
    x = torch.arange(12).reshape(4, 3)
    assert torch.equal(join([x[:1], x[1:3], x[3:]]), x)
    assert join([x]) is x
