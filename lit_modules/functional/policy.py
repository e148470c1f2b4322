"""Policy-gradient objectives for sequences of tokens: GRPO and its relatives.

Shape letters: B sequences, T tokens, V vocabulary, G answers to one prompt (a group).
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional import backward
from lit_modules.functional.blocks import join, row_blocks
from lit_modules.functional.precision import widen
from lit_modules.functional.softmax import log_softmax, softmax

AdvantageMethod = Literal["normalized", "centered", "raw"]
Ratio = Literal["token", "sequence"]
Normalization = Literal["sequence", "token", "constant", "none"]


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Compute log π(token) of each token.

    Both passes process blocks of rows and recompute the probabilities. The logits and their gradient are the
    only tensors of size (..., V).

    Args:
        logits: (..., V); already shifted, so that they predict `tokens`.
        tokens: (...), indices in [0, V).

    Returns:
        (...), in at least fp32, because a ratio of probabilities needs more digits than bf16 has.

    Raises:
        ValueError: Shapes don't match, or a token is out of range.
    """
    if tokens.shape != logits.shape[:-1]:
        raise ValueError(f"tokens must have shape {tuple(logits.shape[:-1])}; got {tuple(tokens.shape)}")
    return -backward.softmax_cross_entropy(logits, tokens)


class _Entropy(Function):
    """H = −Σ_v p_v log p_v, p = softmax(x). With Σ_v ∂p_v/∂x_i = 0,  ∂L/∂x_i = −g p_i (log p_i + H).

    The bracket is x_i − Σ_v p_v x_v, which stays exact when the logits are almost equal. 0 log 0 is 0, so
    logits may be −inf. Both passes process blocks of rows, as in `softmax_cross_entropy`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        entropies = []
        for rows in row_blocks(logits):
            log_p = log_softmax(widen(logits[rows]))
            entropies.append(-(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0)).sum(-1))
        return join(entropies)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        result = torch.empty_like(logits)
        for rows in row_blocks(logits):
            x = widen(logits[rows])
            p = softmax(x)
            shifted = (x - x.detach().amax(-1, keepdim=True)).masked_fill(p == 0, 0)
            result[rows] = p * (shifted - (p * shifted).sum(-1, keepdim=True)) * -grad[rows, None]
        return result


def token_entropy(logits: Tensor) -> Tensor:
    """Compute the entropy of each token's distribution, in nats.

    Args:
        logits: (..., V). A logit of −inf excludes a token; a row of −inf only has entropy 0.

    Returns:
        (...), in at least fp32.
    """
    entropies: Tensor = _Entropy.apply(logits.reshape(-1, logits.shape[-1]))
    return entropies.reshape(logits.shape[:-1])


def group_advantages(
    rewards: Tensor, *, method: AdvantageMethod = "normalized", unbiased: bool = False, eps: float = 1e-6
) -> Tensor:
    """Compute how much better each answer is than the others of its group.

        normalized  (r − mean) / (std + ε)   GRPO: Shao et al., "DeepSeekMath" (2024), section 4.1.2
        centered    r − mean                 REINFORCE with the group's mean as baseline, and Dr. GRPO:
                                             Liu et al., "Understanding R1-Zero-Like Training" (2025)
        raw         r                        REINFORCE without a baseline: Williams (1992)

    If all rewards of a group are equal, or the group has one answer, its centred advantages are exactly 0.

    Args:
        rewards: (..., G), a group along the last dimension.
        method: One of the three rows above.
        unbiased: Divide the sum of squares by G − 1 instead of G before the root, as TRL does.
        eps: ε, which limits the advantages of almost equal rewards. TRL uses 1e-4.

    Returns:
        (..., G), in at least fp32, without gradients.

    Raises:
        ValueError: `method` is unknown.
    """
    rewards = widen(rewards.detach() if rewards.is_floating_point() else rewards.float())
    if method == "raw":
        return rewards
    if method not in get_args(AdvantageMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(AdvantageMethod))}; got {method!r}")
    centered = rewards - rewards.mean(-1, keepdim=True)
    alike = (rewards == rewards[..., :1]).all(-1, keepdim=True)
    centered = centered.masked_fill(alike, 0)  # the mean of equal numbers can have a rounding error
    if method == "centered":
        return centered
    count = max(rewards.shape[-1] - unbiased, 1)
    return centered / ((centered.square().sum(-1, keepdim=True) / count).sqrt() + eps)


def k3_divergence(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimate KL(π ‖ π_ref) at each sampled token: exp(d) − d − 1 with d = log π_ref − log π.

    The estimate is never negative, and unbiased for samples of π. As a loss, its gradient is
    (1 − π_ref / π) ∇ log π.

    Source: Schulman, "Approximating KL Divergence" (2020), k3.

    Args:
        log_probs: (...), log π of the tokens.
        reference_log_probs: (...), log π_ref of the same tokens; it gets no gradient.

    Returns:
        (...).
    """
    d = reference_log_probs.detach() - log_probs
    return torch.expm1(d) - d


def grpo_loss(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_log_probs: Tensor | None = None,
    reference_log_probs: Tensor | None = None,
    ratio: Ratio = "token",
    clip: float = 0.2,
    clip_high: float | None = None,
    kl_weight: float = 0.0,
    normalization: Normalization = "sequence",
    max_length: int | None = None,
) -> Tensor:
    """Compute the loss of Group Relative Policy Optimization, or of one of its variants.

    With a ratio ρ of π and π_old, the loss of a token is

        −min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A) + β (π_ref/π − log(π_ref/π) − 1)

    The ratio belongs to

        token     the token itself, ρ_it = π / π_old            GRPO: Shao et al., "DeepSeekMath" (2024)
        sequence  its sequence, ρ_i = (Π_t ρ_it)^(1 / |o_i|)    GSPO: Zheng et al. (2025), eq. 7

    With |o_i| the number of unmasked tokens of sequence i, the loss of a batch is

        sequence  mean over i of (Σ_t / |o_i|)   GRPO: Shao et al. (2024), eq. 3
        token     Σ_it / Σ_i |o_i|               DAPO: Yu et al. (2025), eq. 8; it also raises ε_high
        constant  Σ_it / (B · max_length)        Dr. GRPO: Liu et al. (2025); no bias by length
        none      Σ_it

    Without `old_log_probs` the current policy has sampled the answers. Then ρ is 1, nothing is clipped, and
    the gradient is that of −A log π: REINFORCE, without a baseline for raw and with one for centred
    advantages.

    Example:
        Two answers to one prompt have two tokens and one token. The first answer is right. Since sampling,
        its tokens have become more probable by the factors 1.5 and 1.1, the other token less probable by
        0.9. The advantages are ±1 (up to ε = 1e-6). The factor 1.5 is clipped to 1.2, so the losses of the
        tokens are −1.2 and −1.1, and 0.9. The loss is the mean of (−1.2 − 1.1) / 2 and 0.9.

        >>> advantages = group_advantages(torch.tensor([[1.0, 0.0]])).flatten()
        >>> old_log_probs = torch.tensor([[0.4, 0.5], [0.6, 1.0]]).log()
        >>> log_probs = torch.tensor([[0.6, 0.55], [0.54, 1.0]]).log()
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> loss = grpo_loss(log_probs, advantages, mask, old_log_probs=old_log_probs)
        >>> print(f"{loss:.4f}")
        -0.1250

    Args:
        log_probs: (B, T), log π of the sampled tokens.
        advantages: A, (B,) for one per sequence, or (B, T); they get no gradient.
        mask: (B, T), True for tokens that count. Values elsewhere have no effect, NaN and inf included. A
            sequence without such tokens has loss 0, but counts in B.
        old_log_probs: (B, T), log π_old of the policy that sampled; None if it is the current one.
        reference_log_probs: (B, T), log π_ref; required if `kl_weight` is not 0.
        ratio: One of the two kinds of ratio above.
        clip: ε.
        clip_high: ε_high; None for ε.
        kl_weight: β.
        normalization: One of the four rows above.
        max_length: The divisor of `constant`.

    Returns:
        A scalar, in at least fp32; 0 if no token counts.

    Raises:
        ValueError: Shapes don't match, an option is unknown, or a required argument is missing.
    """
    _check_grpo(log_probs, advantages, mask, old_log_probs, reference_log_probs)
    mask = mask.bool()
    advantages = _of_each_token(advantages, mask)
    new = widen(log_probs)
    old = new.detach() if old_log_probs is None else widen(old_log_probs.detach())

    # The minimum limits ρ from above where A ≥ 0 and from below where A < 0. Do that before exp: an inf that
    # is clipped or masked after exp becomes NaN in the gradient. A ratio that equals its limit keeps its
    # gradient, unlike with clamp: at ε = 0 the first step after sampling has ρ = 1 for every token.
    log_ratio = _log_ratio(new, old, mask, ratio)
    floor, ceiling = _limits(clip, clip_high)
    log_ratio = log_ratio.masked_fill((advantages >= 0) & (log_ratio > ceiling), ceiling)
    log_ratio = log_ratio.masked_fill((advantages < 0) & (log_ratio < floor), floor)
    losses = -log_ratio.exp() * advantages  # (B, T)

    if kl_weight != 0:
        if reference_log_probs is None:
            raise ValueError(f"kl_weight is {kl_weight} but reference_log_probs are missing")
        reference = widen(reference_log_probs).masked_fill(~mask, 0)
        losses = losses + kl_weight * k3_divergence(new.masked_fill(~mask, 0), reference)

    if normalization == "sequence":
        return (losses.sum(-1) / mask.sum(-1).clamp(min=1)).sum() / max(len(losses), 1)
    if normalization == "token":
        return losses.sum() / mask.sum().clamp(min=1)
    if normalization == "constant":
        if max_length is None or max_length < 1:
            raise ValueError(f"constant normalization needs a max_length of at least 1; got {max_length}")
        return losses.sum() / max(len(losses) * max_length, 1)
    if normalization == "none":
        return losses.sum()
    raise ValueError(
        f"normalization must be one of {', '.join(get_args(Normalization))}; got {normalization!r}"
    )


def clip_fraction(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_log_probs: Tensor | None = None,
    ratio: Ratio = "token",
    clip: float = 0.2,
    clip_high: float | None = None,
) -> Tensor:
    """Compute the share of tokens whose ratio `grpo_loss` clips, so that they do not move the policy.

    Args:
        log_probs: See `grpo_loss`, as for the other arguments.
        advantages: A token with advantage 0 is never clipped.
        mask: Tokens that count.
        old_log_probs: None for the current policy, which is never clipped.
        ratio: The kind of ratio.
        clip: ε.
        clip_high: ε_high.

    Returns:
        A scalar in [0, 1], without a gradient; 0 if no token counts.
    """
    _check_grpo(log_probs, advantages, mask, old_log_probs)
    mask = mask.bool()
    advantages = _of_each_token(advantages, mask)
    new = widen(log_probs.detach())
    log_ratio = _log_ratio(new, new if old_log_probs is None else widen(old_log_probs.detach()), mask, ratio)
    floor, ceiling = _limits(clip, clip_high)
    clipped = ((advantages > 0) & (log_ratio > ceiling)) | ((advantages < 0) & (log_ratio < floor))
    return clipped.sum() / mask.sum().clamp(min=1)


def _of_each_token(advantages: Tensor, mask: Tensor) -> Tensor:
    """Return advantages (B, T), 0 where the mask is False."""
    advantages = widen(advantages.detach())
    return (advantages if advantages.dim() == 2 else advantages[:, None]).masked_fill(~mask, 0)


def _log_ratio(new: Tensor, old: Tensor, mask: Tensor, ratio: Ratio) -> Tensor:
    """Return log ρ of each token, (B, T); of a sequence, it is the mean over its tokens."""
    if ratio not in get_args(Ratio):
        raise ValueError(f"ratio must be one of {', '.join(get_args(Ratio))}; got {ratio!r}")
    log_ratio = (new - old).masked_fill(~mask, 0)
    if ratio == "token":
        return log_ratio
    mean = log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return mean.expand_as(log_ratio)


def _limits(clip: float, clip_high: float | None) -> tuple[float, float]:
    """Return the smallest and the largest log ρ."""
    return math.log1p(-clip) if clip < 1 else -math.inf, math.log1p(clip if clip_high is None else clip_high)


def _check_grpo(log_probs: Tensor, advantages: Tensor, mask: Tensor, *others: Tensor | None) -> None:
    if log_probs.dim() != 2:
        raise ValueError(f"log_probs must be (B, T); got {tuple(log_probs.shape)}")
    if advantages.shape not in (log_probs.shape, log_probs.shape[:1]):
        raise ValueError(
            f"advantages must be {tuple(log_probs.shape[:1])} or {tuple(log_probs.shape)}; "
            f"got {tuple(advantages.shape)}"
        )
    for other in (mask, *others):
        if other is not None and other.shape != log_probs.shape:
            raise ValueError(
                f"mask and log-probabilities must all be {tuple(log_probs.shape)}; got {tuple(other.shape)}"
            )
