"""Ranking metrics: area under the ROC curve."""

import torch
from torch import Tensor


def roc_auc(scores: Tensor, labels: Tensor, *, sample_weight: Tensor | None = None) -> float:
    """Compute the area under the ROC curve: the probability that a positive scores above a negative.

        Σ_i∈pos w_i (Σ_j∈neg w_j ([s_j < s_i] + ½ [s_j = s_i])) / (Σ_pos w · Σ_neg w)

    Ties count half. This is the Mann–Whitney U statistic divided by its maximum (Hanley and McNeil, 1982),
    computed by one sort, on the CPU in fp64: on an accelerator the order of summation is not fixed.

    Args:
        scores: s (N,); higher means more likely positive. ±inf is allowed.
        labels: (N,), booleans, or numbers 0 and 1.
        sample_weight: w (N,), not negative; None for equal weights.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: Shapes don't match, a score is NaN, a label is neither 0 nor 1, a weight is negative or
            not finite, or one class has no weight, so that no area is defined.
    """
    if scores.dim() != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"scores and labels must both be (N,); got {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    s, positive = (x.detach().cpu().double() for x in (scores, labels))
    if bool(s.isnan().any()):
        raise ValueError("scores must not contain NaN, which has no rank")
    if not bool(((positive == 0) | (positive == 1)).all()):
        raise ValueError(f"labels must be 0 or 1; got {positive.unique().tolist()[:5]}")
    weight = _checked_weight(sample_weight, s)

    levels, level = torch.unique(s, return_inverse=True)  # sorted; ties share a level
    nothing = s.new_zeros(len(levels))
    positives = nothing.index_add(0, level, weight * positive)
    negatives = nothing.index_add(0, level, weight * (1 - positive))
    total_positive, total_negative = float(positives.sum()), float(negatives.sum())
    if min(total_positive, total_negative) == 0:
        raise ValueError(
            f"roc_auc needs both classes; positives weigh {total_positive:g} and negatives {total_negative:g}"
        )
    beaten = negatives.cumsum(0) - negatives / 2
    return float((positives / total_positive) @ (beaten / total_negative))


def one_vs_rest_auc(scores: Tensor, targets: Tensor) -> float:
    """Compute the mean over classes of the area under the ROC curve of one class against all others.

        1/|C| Σ_c∈C roc_auc(s_c, [t = c])

    C is the set of classes that contain some samples, but not all; for other classes no area is defined.

    Source: Provost and Domingos (2003); the unweighted mean is scikit-learn's `average="macro"`.

    Args:
        scores: (N, K); higher means more likely. Pass probabilities, because scores of different samples are
            compared.
        targets: Class of each sample, (N,).

    Returns:
        A number in [0, 1]; NaN if C is empty.

    Raises:
        ValueError: Shapes don't match, or `roc_auc` refuses the scores.
    """
    if scores.dim() != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(
            f"scores must be (N, K) and targets (N,); got {tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    members = targets.unsqueeze(1) == torch.arange(scores.shape[1], device=targets.device)  # (N, K)
    defined = (members.any(0) & ~members.all(0)).nonzero().flatten().tolist()
    areas = [roc_auc(scores[:, c], members[:, c]) for c in defined]
    return sum(areas) / len(areas) if areas else float("nan")


def _checked_weight(sample_weight: Tensor | None, scores: Tensor) -> Tensor:
    if sample_weight is None:
        return torch.ones_like(scores)
    if sample_weight.shape != scores.shape:
        raise ValueError(
            f"sample_weight has shape {tuple(sample_weight.shape)} and scores {tuple(scores.shape)}"
        )
    weight = sample_weight.detach().cpu().double()
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError("sample_weight must be finite and not negative")
    return weight
