"""Perplexity: the number of equally likely tokens that a model is as unsure as."""

from torch import Tensor

from lit_modules.functional.cross_entropy import cross_entropy
from lit_modules.functional.precision import widen


def perplexity(logits: Tensor, targets: Tensor, *, ignore_index: int = -100) -> Tensor:
    """exp of the mean cross-entropy over the tokens that count.

    Args:
        logits: (..., V).
        targets: (...), token indices in [0, V).
        ignore_index: Targets of this value don't count.

    Returns:
        A scalar ≥ 1, in at least fp32; inf where it is beyond that.

    Raises:
        ValueError: no token counts, or shapes that don't match.
    """
    if not bool((targets != ignore_index).any()):
        raise ValueError(f"no token counts: all {targets.numel()} targets are ignored")
    return cross_entropy(widen(logits), targets, ignore_index=ignore_index).exp()


def perplexity_of_windows(mean_losses: Tensor, token_counts: Tensor) -> Tensor:
    """exp(Σ ℓ_i n_i / Σ n_i): windows weighted by their tokens, as if they were one text.

    The mean of the windows' losses is the text's only if all windows are of the same length, and the mean of
    their perplexities not even then.

    Args:
        mean_losses: (W,), the mean cross-entropy of each window, in nats.
        token_counts: (W,), over how many tokens. A window of none doesn't count, whatever its loss.

    Returns:
        A scalar, in at least fp32.

    Raises:
        ValueError: shapes that differ, a negative count, or no tokens at all.
    """
    if mean_losses.shape != token_counts.shape:
        raise ValueError(
            f"mean_losses have shape {tuple(mean_losses.shape)} and token_counts {tuple(token_counts.shape)}"
        )
    if not bool((token_counts >= 0).all()) or not bool((token_counts > 0).any()):
        raise ValueError(f"token_counts must not be negative nor all 0; got {token_counts.tolist()[:5]}")
    losses = widen(mean_losses).masked_fill(token_counts == 0, 0)
    shares = token_counts.to(losses.dtype) / token_counts.sum()
    return (losses * shares).sum().exp()
