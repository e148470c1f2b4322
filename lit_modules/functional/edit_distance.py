"""Edit distance (Levenshtein) and alignment of many pairs of sequences at once.

Shape letters: M and N lengths of the two padded sequences.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def edit_distance(
    a: Tensor, b: Tensor, *, a_lengths: Tensor | None = None, b_lengths: Tensor | None = None
) -> Tensor:
    """Return the fewest substitutions, deletions and insertions that turn `a` into `b` (Levenshtein, 1966).

        d(i, j) = min(d(i−1, j−1) + [a_i ≠ b_j],  d(i−1, j) + 1,  d(i, j−1) + 1)

    Dynamic programming (Wagner and Fischer, 1974) over the rows of the table, for all pairs together: M steps
    of tensor operations on N + 1 columns.

    Args:
        a: (..., M), integers.
        b: (..., N), integers; leading dimensions broadcast against those of `a`.
        a_lengths: Length of each sequence in `a`, (...); later elements are padding. None for M.
        b_lengths: Length of each sequence in `b`, (...). None for N.

    Returns:
        (...), int64.

    Raises:
        ValueError: Leading dimensions don't broadcast, or a length is out of range.
    """
    a, b, a_lengths, b_lengths = _broadcast(a, b, a_lengths, b_lengths)
    at = b_lengths.unsqueeze(-1)
    distance = b_lengths.clone()  # if a is empty: insertions only
    for i, row in enumerate(_rows(a, b)):
        distance = torch.where(a_lengths == i, row.gather(-1, at).squeeze(-1), distance)
    return distance


def edit_alignment(
    a: Tensor, b: Tensor, *, a_lengths: Tensor | None = None, b_lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return which element of `a` corresponds to which of `b` in a shortest sequence of edits.

    There may be several. Read from the end, the chosen one prefers a match or substitution to a deletion, and
    a deletion to an insertion.

    The arguments are those of `edit_distance`.

    Returns:
        Positions in `a` and in `b`, both int64 (..., M + N), in the order of the sequences. −1 marks the gap
        opposite an insertion or a deletion. Shorter alignments start with −1 in both.

    Raises:
        ValueError: Leading dimensions don't broadcast, or a length is out of range.
    """
    a, b, a_lengths, b_lengths = _broadcast(a, b, a_lengths, b_lengths)
    table = torch.stack(list(_rows(a, b)), -2).flatten(-2)  # (..., (M + 1) · (N + 1))
    width = b.shape[-1] + 1

    def look_up(i: Tensor, j: Tensor) -> Tensor:
        """Return entries of the table; outside the table, a number larger than any entry."""
        inside = (i >= 0) & (j >= 0)
        found = table.gather(-1, torch.where(inside, i * width + j, 0).unsqueeze(-1)).squeeze(-1)
        return torch.where(inside, found, table.shape[-1])

    i, j = a_lengths.clone(), b_lengths.clone()
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(a.shape[-1] + b.shape[-1]):
        here = look_up(i, j)
        differs = _element(a, i - 1) != _element(b, j - 1)
        diagonal = look_up(i - 1, j - 1) + differs == here
        deleted = ~diagonal & (look_up(i - 1, j) + 1 == here)
        inserted = ~diagonal & ~deleted & (j > 0)
        in_a, in_b = diagonal | deleted, diagonal | inserted
        pairs.append((torch.where(in_a, i - 1, -1), torch.where(in_b, j - 1, -1)))
        i, j = i - in_a.long(), j - in_b.long()
    if not pairs:
        nothing = i.new_zeros(*i.shape, 0)
        return nothing, nothing
    positions_a, positions_b = zip(*reversed(pairs), strict=True)
    return torch.stack(positions_a, -1), torch.stack(positions_b, -1)


def _rows(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Yield the M + 1 rows (..., N + 1) of the table d."""
    columns = torch.arange(b.shape[-1] + 1, device=b.device)
    row = columns.expand(*b.shape[:-1], -1)
    yield row
    for i in range(a.shape[-1]):
        differs = (a[..., i : i + 1] != b).long()  # (..., N)
        without_insertion = torch.cat(
            [row[..., :1] + 1, torch.minimum(row[..., 1:] + 1, row[..., :-1] + differs)], -1
        )
        # d(i, j) = min over k ≤ j of the cost to reach (i, k) without an insertion, plus j − k insertions
        row = (without_insertion - columns).cummin(-1).values + columns
        yield row


def _element(sequence: Tensor, position: Tensor) -> Tensor:
    """Return sequence[..., position]; the first element if the position is negative."""
    if sequence.shape[-1] == 0:
        return torch.zeros_like(position)
    return sequence.gather(-1, position.clamp(min=0).unsqueeze(-1)).squeeze(-1)


def _broadcast(
    a: Tensor, b: Tensor, a_lengths: Tensor | None, b_lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Broadcast the sequences and lengths to the same leading dimensions."""
    try:
        shape = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"a and b must broadcast in all but the last dimension; got {tuple(a.shape)} and {tuple(b.shape)}"
        ) from None
    expanded = [a.expand(*shape, -1), b.expand(*shape, -1)]
    lengths = []
    for name, sequence, given in (("a", a, a_lengths), ("b", b, b_lengths)):
        longest = sequence.shape[-1]
        length = torch.as_tensor(longest if given is None else given, device=sequence.device).long()
        if given is not None and given.numel() and not 0 <= int(given.min()) <= int(given.max()) <= longest:
            raise ValueError(
                f"{name}_lengths must lie in [0, {longest}]; got values from {int(given.min())} to "
                f"{int(given.max())}"
            )
        lengths.append(length.expand(shape))
    return expanded[0], expanded[1], lengths[0], lengths[1]
