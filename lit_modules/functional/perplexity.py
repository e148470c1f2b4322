"""Perplexity: the model is as unsure as if it chose among this many equally likely tokens."""

from torch import Tensor

from lit_modules.functional.cross_entropy import cross_entropy
from lit_modules.functional.precision import widen


def perplexity(logits: Tensor, targets: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Compute exp of the mean cross-entropy over the tokens that are not ignored.

    Args:
        logits: (..., V).
        targets: (...), token indices in [0, V).
        ignore_index: Targets of this value are ignored.

    Returns:
        A scalar ≥ 1, in at least fp32; inf if it overflows.

    Raises:
        ValueError: All targets are ignored, or shapes don't match.
    """
    if not bool((targets != ignore_index).any()):
        raise ValueError(f"no token counts: all {targets.numel()} targets are ignored")
    return cross_entropy(widen(logits), targets, ignore_index=ignore_index).exp()


def perplexity_of_windows(mean_losses: Tensor, token_counts: Tensor) -> Tensor:
    """Compute exp(Σ ℓ_i n_i / Σ n_i), the perplexity of a text that was scored in windows.

    The mean of the windows' losses equals the text's loss only if all windows have the same length. The mean
    of the windows' perplexities is wrong even then.

    Args:
        mean_losses: ℓ (W,), the mean cross-entropy of each window, in nats.
        token_counts: n (W,), the number of tokens of each window. A window of 0 tokens is ignored.

    Returns:
        A scalar, in at least fp32.

    Raises:
        ValueError: The shapes differ, a count is negative, or all counts are 0.
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
