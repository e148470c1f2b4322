"""How far written sequences are from what they should be: error rates over tokens and over whole sequences.

Shape letters: B sequences, A alternatives of the right answer, T tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import SequencePairInfo
from lit_modules.functional.edit_distance import edit_distance
from lit_modules.generation.special_tokens import EOS, PAD


class ErrorRate(Metric):
    """Errors over what there was to get right, summed over batches and processes.

    Where a sequence has several right answers, it is measured by the one that it comes closest to.

    Args:
        groups: For each token the class that stands for it, as in scoring phonemes without their stress;
            empty: each token stands for itself.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    errors: Tensor
    total: Tensor
    groups: Tensor

    def __init__(self, groups: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("groups", torch.tensor(groups, dtype=torch.long), persistent=False)
        self.add_state("errors", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, alternatives: Tensor) -> None:
        """Add a batch.

        Args:
            predicted: What was written, int64 (B, T'), without `BOS`; it ends before the first `EOS` or
                `PAD`, or with its row.
            alternatives: Right answers, int64 (B, A, T): `BOS`, tokens, `EOS`, then `PAD`. A row of
                `PAD` alone is no answer; each sequence has one at least.

        Raises:
            ValueError: The shapes don't belong together, or a sequence has no right answer.
        """
        errors, total = self.count(predicted, alternatives)
        self.errors += errors
        self.total += total

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        """Errors of a batch and what there was to get right, both scalars."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """A scalar ≥ 0; NaN of nothing."""
        return self.errors / self.total


class TokenErrorRate(ErrorRate):
    """Edits between what was written and the nearest right answer, over the length of those answers.

    Both are summed over all sequences before they are divided, as speech recognition has it; so insertions
    can bring the rate above 1. Of answers that are equally near the first one counts.
    """

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        nearest = nearest_answers(predicted, alternatives, self.groups)
        return nearest.edits.sum(), nearest.lengths.sum()


class SequenceErrorRate(ErrorRate):
    """The share of sequences that equal none of their right answers."""

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        wrong = nearest_answers(predicted, alternatives, self.groups).edits > 0
        return wrong.sum(), torch.tensor(len(wrong), device=wrong.device)


class Nearest(NamedTuple):
    """Of each sequence the right answer that it comes closest to, the first of those."""

    edits: Tensor  # (B,), from what was written to that answer
    lengths: Tensor  # (B,), the answer's
    which: Tensor  # (B,), its place among the alternatives


def nearest_answers(predicted: Tensor, alternatives: Tensor, groups: Tensor | None = None) -> Nearest:
    """Compare what was written with what would have been right.

    Args:
        predicted: See `ErrorRate.update`.
        alternatives: See there.
        groups: For each token the class that stands for it, int64 (V,); None or empty: itself.

    Raises:
        ValueError: See there.
    """
    if predicted.ndim != 2 or alternatives.ndim != 3 or len(predicted) != len(alternatives):
        raise ValueError(
            "predicted must be (B, T') and alternatives (B, A, T); got "
            f"{tuple(predicted.shape)} and {tuple(alternatives.shape)}"
        )
    exists = alternatives[..., 0] != PAD  # (B, A)
    if not bool(exists.any(1).all()):
        raise ValueError("each sequence must have a right answer; there is one whose rows are all padding")
    answers = alternatives[..., 1:]
    answer_lengths, lengths = content_lengths(answers), content_lengths(predicted)
    if groups is not None and len(groups):
        predicted, answers = groups[predicted], groups[answers]
    edits = edit_distance(
        predicted.unsqueeze(1), answers, a_lengths=lengths.unsqueeze(1), b_lengths=answer_lengths
    )  # (B, A)
    beyond = predicted.shape[1] + answers.shape[2] + 1
    places = torch.arange(edits.shape[1], device=edits.device)
    ranks = edits.masked_fill(~exists, beyond) * len(places) + places  # no two of a row are equal
    index = ranks.argmin(1, keepdim=True)
    return Nearest(edits.gather(1, index)[:, 0], answer_lengths.gather(1, index)[:, 0], index[:, 0])


def content_lengths(tokens: Tensor) -> Tensor:
    """Tokens of each row before its first `EOS` or `PAD`: (..., T) → int64 (...)."""
    ends = (tokens == EOS) | (tokens == PAD)
    return (ends.cumsum(-1) == 0).sum(-1)


def error_rates(info: SequencePairInfo) -> dict[str, Metric]:
    """The metrics of an evaluation by name, such as `phoneme_error_rate` and `word_error_rate`.

    Where the data has groups of tokens, each is there a second time with `_without_stress`, or whatever
    their name is, and takes the tokens of a group for the same.
    """
    token, sequence, lenient = info.error_names
    kinds: dict[str, Any] = {token: TokenErrorRate, sequence: SequenceErrorRate}
    metrics: dict[str, Metric] = {f"{name}_error_rate": kind() for name, kind in kinds.items()}
    if info.target_groups:
        for name, kind in kinds.items():
            metrics[f"{name}_error_rate_{lenient}"] = kind(info.target_groups)
    return metrics
