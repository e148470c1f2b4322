"""Error rates of written sequences: by tokens and by whole sequences.

Shape letters: B sequences, A alternative correct answers, T tokens.
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
    """Errors per token or per sequence, with both numbers summed over batches and processes.

    If a sequence has several correct answers, the nearest answer counts.

    Args:
        groups: Group of each token, for example to score phonemes without their stress; tokens of a group
            count as equal. Empty: each token is its own group.
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
            predicted: Written sequences, int64 (B, T'), without `BOS`; a sequence ends before its first `EOS`
                or `PAD`, or at the end of its row.
            alternatives: Correct answers, int64 (B, A, T): `BOS`, tokens, `EOS`, then `PAD`. A row of only
                `PAD` is no answer; each sequence has at least one answer.

        Raises:
            ValueError: The shapes do not match, or a sequence has no correct answer.
        """
        errors, total = self.count(predicted, alternatives)
        self.errors += errors
        self.total += total

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        """Count the errors of a batch and the tokens or sequences, both scalars."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """Return a scalar ≥ 0; NaN without any sequence."""
        return self.errors / self.total


class TokenErrorRate(ErrorRate):
    """Edit distance to the nearest correct answer, divided by the length of that answer.

    Both are summed over all sequences before the division, as in speech recognition, so insertions can raise
    the rate above 1. Among equally near answers, the first one counts.
    """

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        """Count the edits and the tokens of the nearest answers."""
        nearest = nearest_answers(predicted, alternatives, self.groups)
        return nearest.edits.sum(), nearest.lengths.sum()


class SequenceErrorRate(ErrorRate):
    """The share of sequences that equal none of their correct answers."""

    def count(self, predicted: Tensor, alternatives: Tensor) -> tuple[Tensor, Tensor]:
        """Count the wrong sequences and all sequences."""
        wrong = nearest_answers(predicted, alternatives, self.groups).edits > 0
        return wrong.sum(), torch.tensor(len(wrong), device=wrong.device)


class Nearest(NamedTuple):
    """The nearest correct answer of each sequence; among equally near answers the first one."""

    edits: Tensor  # (B,), edit distance to the answer
    lengths: Tensor  # (B,), length of the answer
    which: Tensor  # (B,), index of the answer among the alternatives


def nearest_answers(predicted: Tensor, alternatives: Tensor, groups: Tensor | None = None) -> Nearest:
    """Find the nearest correct answer of each written sequence.

    Args:
        predicted: See `ErrorRate.update`.
        alternatives: See `ErrorRate.update`.
        groups: Group of each token, int64 (V,); `None` or empty: each token is its own group.

    Raises:
        ValueError: See `ErrorRate.update`.
    """
    if predicted.ndim != 2 or alternatives.ndim != 3 or len(predicted) != len(alternatives):
        raise ValueError(
            "predicted must be (B, T') and alternatives (B, A, T); got "
            f"{tuple(predicted.shape)} and {tuple(alternatives.shape)}"
        )
    exists = alternatives[..., 0] != PAD  # (B, A)
    if not bool(exists.any(1).all()):
        raise ValueError("each sequence must have a correct answer, but the rows of one are all padding")
    answers = alternatives[..., 1:]
    answer_lengths, lengths = content_lengths(answers), content_lengths(predicted)
    if groups is not None and len(groups):
        predicted, answers = groups[predicted], groups[answers]
    edits = edit_distance(
        predicted.unsqueeze(1), answers, a_lengths=lengths.unsqueeze(1), b_lengths=answer_lengths
    )  # (B, A)
    beyond = predicted.shape[1] + answers.shape[2] + 1
    places = torch.arange(edits.shape[1], device=edits.device)
    ranks = edits.masked_fill(~exists, beyond) * len(places) + places  # without ties within a row
    index = ranks.argmin(1, keepdim=True)
    return Nearest(edits.gather(1, index)[:, 0], answer_lengths.gather(1, index)[:, 0], index[:, 0])


def content_lengths(tokens: Tensor) -> Tensor:
    """Count the tokens of each row before its first `EOS` or `PAD`: (..., T) → int64 (...)."""
    ends = (tokens == EOS) | (tokens == PAD)
    return (ends.cumsum(-1) == 0).sum(-1)


def error_rates(info: SequencePairInfo) -> dict[str, Metric]:
    """Build the error rates by name, such as `phoneme_error_rate` and `word_error_rate`.

    If the data has groups of tokens, there is a second, lenient metric of each kind, with a suffix such as
    `_without_stress`, for which the tokens of a group are equal.
    """
    token, sequence, lenient = info.error_names
    kinds: dict[str, Any] = {token: TokenErrorRate, sequence: SequenceErrorRate}
    metrics: dict[str, Metric] = {f"{name}_error_rate": kind() for name, kind in kinds.items()}
    if info.target_groups:
        for name, kind in kinds.items():
            metrics[f"{name}_error_rate_{lenient}"] = kind(info.target_groups)
    return metrics
