"""The objective that learns from rewards of sampled answers: GRPO, and the variants that its settings choose.

Shape letters: P prompts, G answers to each, B answers, T tokens.
"""

from typing import Any

import torch
from torch import Tensor

from lit_modules.configs.objective import GRPOConfig
from lit_modules.functional.policy import (
    clip_fraction,
    group_advantages,
    grpo_loss,
    k3_divergence,
    token_entropy,
)
from lit_modules.generation.rollout import Rollout


class GRPO:
    """Makes an answer more probable if its reward is larger than those of the other answers of its group.

    Some settings have names of their own:

        ratio: none                               REINFORCE with the group's mean as baseline
        ratio: none, advantage: raw               rejection sampling, if rewards are 0 or 1: the gradient is
                                                  that of the cross-entropy of the correct answers (with
                                                  normalization: token and skip_zero_advantages: true)
        advantage: centered,
        normalization: constant                   Dr. GRPO
        ratio: sequence                           GSPO
    """

    def __init__(self, config: GRPOConfig, info: Any = None) -> None:
        self.config = config
        self.max_length = getattr(info, "answer_length", None)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Compare rewards (B,) within each group; return (B,)."""
        groups = rewards.view(-1, self.config.group_size)  # (P, G)
        method, unbiased = self.config.advantage, self.config.unbiased_std
        return group_advantages(groups, method=method, unbiased=unbiased).flatten()

    def rows(self, rollout: Rollout) -> Tensor:
        """Return the indices of the answers to learn from, (N,); all of them if none has an advantage."""
        useful = rollout.advantages != 0
        if not self.config.skip_zero_advantages or not useful.any():
            useful = torch.ones_like(useful)
        return useful.nonzero().flatten()

    def __call__(self, log_probs: Tensor, rollout: Rollout) -> Tensor:
        """Return the loss of answers with log-probabilities (B, T) by the current network."""
        return grpo_loss(
            log_probs,
            rollout.advantages,
            rollout.mask,
            reference_log_probs=rollout.reference_log_probs,
            kl_weight=self.config.kl_weight,
            normalization=self.config.normalization,
            max_length=self.max_length,
            **self._clipping(rollout),
        )

    @torch.no_grad()
    def curves(self, log_probs: Tensor, logits: Tensor, rollout: Rollout) -> dict[str, Tensor]:
        """Return what a training curve shows of a step, as means over its tokens."""
        mask = rollout.mask
        found = {
            "entropy": token_entropy(logits)[mask].mean(),
            "clip_fraction": clip_fraction(log_probs, rollout.advantages, mask, **self._clipping(rollout)),
        }
        if rollout.reference_log_probs is not None:
            found["kl"] = k3_divergence(log_probs[mask], rollout.reference_log_probs[mask]).mean()
        return found

    def _clipping(self, rollout: Rollout) -> dict[str, Any]:
        config = self.config
        if config.ratio == "none":
            return {"old_log_probs": None}
        return {
            "old_log_probs": rollout.old_log_probs,
            "ratio": config.ratio,
            "clip": config.clip,
            "clip_high": config.clip_high,
        }
