"""Edit distances and alignments against the textbook's recursion."""

from functools import cache

import pytest
import torch
from torch import Tensor

from lit_modules.functional.edit_distance import edit_alignment, edit_distance


def by_definition(a: list[int], b: list[int]) -> int:
    @cache
    def d(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(d(i - 1, j - 1) + (a[i - 1] != b[j - 1]), d(i - 1, j) + 1, d(i, j - 1) + 1)

    return d(len(a), len(b))


def random_pairs(
    count: int, longest_a: int, longest_b: int, letters: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(letters, (count, longest_a), generator=generator)
    b = torch.randint(letters, (count, longest_b), generator=generator)
    lengths = (torch.randint(n + 1, (count,), generator=generator) for n in (longest_a, longest_b))
    return a, b, *lengths


@pytest.mark.parametrize("letters", [2, 3, 20])
@pytest.mark.parametrize(("longest_a", "longest_b"), [(7, 5), (3, 9), (1, 1), (0, 4), (4, 0), (0, 0)])
def test_distances_are_those_of_the_definition(longest_a: int, longest_b: int, letters: int) -> None:
    a, b, a_lengths, b_lengths = random_pairs(60, longest_a, longest_b, letters)
    found = edit_distance(a, b, a_lengths=a_lengths, b_lengths=b_lengths)
    expected = [
        by_definition(x[:m], y[:n])
        for x, y, m, n in zip(a.tolist(), b.tolist(), a_lengths.tolist(), b_lengths.tolist(), strict=True)
    ]
    assert found.tolist() == expected
    assert found.dtype == torch.long


def test_a_known_distance() -> None:
    kitten, sitting = (torch.tensor([ord(c) for c in word]) for word in ("kitten", "sitting"))
    assert edit_distance(kitten, sitting).item() == 3
    assert edit_distance(sitting, kitten).item() == 3
    assert edit_distance(kitten, kitten).item() == 0


def test_leading_dimensions_broadcast() -> None:
    a, b, a_lengths, _ = random_pairs(12, 5, 6, 3)
    whole = edit_distance(a.view(12, 1, 5), b.view(1, 12, 6), a_lengths=a_lengths.view(12, 1))
    for i in range(12):
        for j in range(12):
            assert whole[i, j] == by_definition(a[i, : a_lengths[i]].tolist(), b[j].tolist())


def test_elements_beyond_the_length_are_ignored() -> None:
    a, b, a_lengths, b_lengths = random_pairs(40, 6, 6, 2)
    before = edit_distance(a, b, a_lengths=a_lengths, b_lengths=b_lengths)
    for sequence, lengths in ((a, a_lengths), (b, b_lengths)):
        sequence[torch.arange(6) >= lengths.unsqueeze(1)] = 7
    assert torch.equal(edit_distance(a, b, a_lengths=a_lengths, b_lengths=b_lengths), before)


@pytest.mark.parametrize(("longest_a", "longest_b"), [(7, 5), (3, 9), (1, 1), (0, 4), (4, 0), (0, 0)])
def test_an_alignment_has_the_fewest_edits(longest_a: int, longest_b: int) -> None:
    a, b, a_lengths, b_lengths = random_pairs(60, longest_a, longest_b, 3)
    in_a, in_b = edit_alignment(a, b, a_lengths=a_lengths, b_lengths=b_lengths)
    assert in_a.shape == in_b.shape == (60, longest_a + longest_b)
    distances = edit_distance(a, b, a_lengths=a_lengths, b_lengths=b_lengths)
    for row in range(60):
        steps = [
            (i, j) for i, j in zip(in_a[row].tolist(), in_b[row].tolist(), strict=True) if (i, j) != (-1, -1)
        ]
        assert [i for i, _ in steps if i >= 0] == list(range(a_lengths[row]))
        assert [j for _, j in steps if j >= 0] == list(range(b_lengths[row]))
        edits = sum(min(i, j) < 0 or bool(a[row, i] != b[row, j]) for i, j in steps)
        assert edits == distances[row]


def test_among_equal_alignments_the_later_elements_are_kept() -> None:
    positions = edit_alignment(torch.tensor([1, 1]), torch.tensor([1]))
    assert [p.tolist() for p in positions] == [[-1, 0, 1], [-1, -1, 0]]


def test_mismatched_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must broadcast .* got \(2, 3\) and \(4, 3\)"):
        edit_distance(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"b_lengths must lie in \[0, 3\]; got values from 1 to 4"):
        edit_distance(torch.zeros(2, 3), torch.zeros(2, 3), b_lengths=torch.tensor([1, 4]))
