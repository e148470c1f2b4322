"""Policy-gradient objectives over sequences of tokens: what a group of sampled answers teaches a policy.

Shape letters: B sequences, T tokens, V vocabulary, G answers in a group (to one prompt).
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
Normalization = Literal["sequence", "token", "constant"]


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log π(token) of each token, under the distribution that its logits give.

    Beside the logits and their gradient nothing of size (..., V) exists: probabilities are made a block of
    rows at a time, in the forward and again in the backward.

    Args:
        logits: (..., V); those that predict `tokens`, so already shifted.
        tokens: (...), indices in [0, V).

    Returns:
        (...), in at least fp32: a ratio of probabilities needs more digits than bf16 has.

    Raises:
        ValueError: shapes that don't match, a token out of range.
    """
    if tokens.shape != logits.shape[:-1]:
        raise ValueError(f"tokens must have shape {tuple(logits.shape[:-1])}; got {tuple(tokens.shape)}")
    return -backward.softmax_cross_entropy(logits, tokens)


class _Entropy(Function):
    """H = −Σ_v p_v log p_v, p = softmax(x). As Σ_v ∂p_v/∂x_i = 0,  ∂L/∂x_i = −g p_i (log p_i + H).

    The bracket is x_i − Σ_v p_v x_v, which keeps its digits when all logits are alike. 0 log 0 is 0, so a
    vocabulary may be masked with −inf. By blocks of rows and recomputing, as for the log-probabilities.
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
    """The entropy of each token's distribution, in nats; as frugal with memory as `token_log_probs`.

    Args:
        logits: (..., V). A −inf takes a token out; a row of nothing else has entropy 0.

    Returns:
        (...), in at least fp32.
    """
    entropies: Tensor = _Entropy.apply(logits.reshape(-1, logits.shape[-1]))
    return entropies.reshape(logits.shape[:-1])


def group_advantages(rewards: Tensor, *, method: AdvantageMethod = "normalized", eps: float = 1e-6) -> Tensor:
    """How much better each answer is than the others in its group.

        normalized  (r − mean) / (std + ε)   GRPO: Shao et al., "DeepSeekMath" (2024), section 4.1.2
        centered    r − mean                 REINFORCE with the group's mean as baseline; also Dr. GRPO:
                                             Liu et al., "Understanding R1-Zero-Like Training" (2025)
        raw         r                        REINFORCE without a baseline: Williams (1992)

    The deviation is the biased one: the group is all there is. A group whose rewards are all alike, or that
    has one answer only, teaches nothing: its centred advantages are exactly 0.

    Args:
        rewards: (..., G), a group along the last dimension.
        method: As above.
        eps: Keeps a tiny spread from being blown up.

    Returns:
        (..., G), in at least fp32, without gradients.

    Raises:
        ValueError: an unknown `method`.
    """
    rewards = widen(rewards.detach() if rewards.is_floating_point() else rewards.float())
    if method == "raw":
        return rewards
    if method not in get_args(AdvantageMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(AdvantageMethod))}; got {method!r}")
    centered = rewards - rewards.mean(-1, keepdim=True)
    alike = (rewards == rewards[..., :1]).all(-1, keepdim=True)
    centered = centered.masked_fill(alike, 0)  # the mean of equal numbers can be a rounding away from them
    if method == "centered":
        return centered
    return centered / (centered.square().mean(-1, keepdim=True).sqrt() + eps)


def k3_divergence(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """An estimate of KL(π ‖ π_ref) at each sampled token: exp(d) − d − 1 with d = log π_ref − log π.

    Never negative, and unbiased for samples of π. Schulman, "Approximating KL Divergence" (2020), k3. As a
    loss, its gradient is (1 − π_ref / π) ∇ log π.

    Args:
        log_probs: (...), log π of the tokens.
        reference_log_probs: (...), log π_ref of the same tokens; no gradient flows into it.

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
    clip: float = 0.2,
    clip_high: float | None = None,
    kl_weight: float = 0.0,
    normalization: Normalization = "sequence",
    max_length: int | None = None,
) -> Tensor:
    """Group Relative Policy Optimization, and by its arguments its relatives.

    With ratio ρ = π / π_old, each token that counts costs

        −min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A) + β (π_ref/π − log(π_ref/π) − 1)

    and a batch costs, with |o_i| the tokens that count in sequence i,

        sequence  mean over i of (Σ_t / |o_i|)   GRPO: Shao et al., "DeepSeekMath" (2024), eq. 3
        token     Σ_it / Σ_i |o_i|               DAPO: Yu et al. (2025), eq. 8; it raises ε_high too
        constant  Σ_it / (B · max_length)        Dr. GRPO: Liu et al. (2025); no bias by length

    Without `old_log_probs` the samples are the current policy's own: ρ is 1, clipping is idle, and the
    gradient is that of −A log π. With raw or centred advantages that is REINFORCE without or with a baseline.

    Args:
        log_probs: (B, T), log π of the sampled tokens.
        advantages: (B,), one for each sequence, or (B, T); constants to the gradient.
        mask: (B, T), True where a token counts. What is elsewhere, NaN and inf included, has no effect. A
            sequence without any costs 0, but counts in B.
        old_log_probs: (B, T), log π of the policy that sampled; None if that is the current one.
        reference_log_probs: (B, T), log π_ref; needed if `kl_weight` isn't 0.
        clip: ε.
        clip_high: ε_high; None for ε.
        kl_weight: β.
        normalization: As above.
        max_length: The constant that sequences are divided by in place of their length.

    Returns:
        A scalar, in at least fp32; 0 if no token counts.

    Raises:
        ValueError: shapes that don't match, or an argument that another one calls for and that is missing.
    """
    _check_grpo(log_probs, advantages, mask, old_log_probs, reference_log_probs)
    mask = mask.bool()
    advantages = widen(advantages.detach())
    advantages = (advantages if advantages.dim() == 2 else advantages[:, None]).masked_fill(~mask, 0)
    new = widen(log_probs)
    old = new.detach() if old_log_probs is None else widen(old_log_probs.detach())

    # The minimum cuts ρ off from above where A ≥ 0 and from below where A < 0. So does this, but before exp:
    # an inf that is cut off or masked only after it would turn into NaN in the gradient.
    log_ratio = (new - old).masked_fill(~mask, 0)
    ceiling = math.log1p(clip if clip_high is None else clip_high)
    floor = math.log1p(-clip) if clip < 1 else -math.inf
    log_ratio = torch.where(advantages >= 0, log_ratio.clamp(max=ceiling), log_ratio.clamp(min=floor))
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
    raise ValueError(
        f"normalization must be one of {', '.join(get_args(Normalization))}; got {normalization!r}"
    )


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
