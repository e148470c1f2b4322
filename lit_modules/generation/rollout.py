"""Answers that a language model samples to prompts, arranged like training data.

Shape letters: P prompts, G answers to each, B = P · G answers, T tokens of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from lit_modules.configs.generation import SamplingConfig
from lit_modules.functional.policy import token_log_probs
from lit_modules.generation.decoding import device_of
from lit_modules.generation.generate import generate
from lit_modules.metrics.token_metrics import IGNORED
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Sampled answers and how good they are. The G answers to a prompt are neighbours.

    `tokens` and `targets` are laid out as in supervised training: a target is the next token if it belongs to
    the answer, else −100.
    """

    tokens: Tensor  # int64 (B, T): prompt, answer, then padding
    targets: Tensor  # int64 (B, T)
    rewards: Tensor  # (B,)
    advantages: Tensor  # (B,)
    reference_log_probs: Tensor | None = None  # (B, T), by the initial network
    old_log_probs: Tensor | None = None  # (B, T), by the network that sampled; None if it is the current one

    @property
    def mask(self) -> Tensor:
        """True for targets that belong to an answer, (B, T)."""
        return self.targets != IGNORED

    def part(self, rows: Tensor) -> "Rollout":
        """Return some rows, (N,), without the columns that are padding in all of them."""
        width = int(self.mask[rows].any(0).nonzero().max()) + 1
        return replace(
            self,
            **{
                field.name: value[rows, :width] if value.dim() == 2 else value[rows]
                for field in fields(self)
                if (value := getattr(self, field.name)) is not None
            },
        )

    def to(self, device: torch.device) -> "Rollout":
        """Return the rollout on a device."""
        return replace(self, **{k: v.to(device) for k, v in self.to_dict().items() if v is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the tensors by name, for a checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def answer_log_probs(
    network: TransformerLM, rollout: Rollout, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target, (B, T), and the logits, (B, T, V), both at a temperature."""
    logits = network(rollout.tokens) / temperature
    return token_log_probs(logits, rollout.targets.clamp(min=0)), logits


def sample_answers(
    network: TransformerLM, prompts: Sequence[Tokens], settings: SamplingConfig, seeds: Sequence[int]
) -> list[list[int]]:
    """Answer all prompts in one batch with a cache of keys and values.

    Args:
        network: The network; the sampling uses a copy that is optimised for generation.
        prompts: Token ids of each prompt.
        settings: Its one stop id ends an answer.
        seeds: One for each prompt.

    Returns:
        The tokens of each answer, with the stop id unless the answer is cut off.
    """
    device_type = device_of(network).type
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        answers = generate(DecodingLM(network), prompts, settings, seeds=seeds)
    return [a if len(a) == settings.max_new_tokens else [*a, *settings.stop_ids] for a in answers]


def prompts_and_answers(tokens: Tensor, targets: Tensor) -> tuple[list[list[int]], list[list[int]]]:
    """Take supervised rows, (B, T) each, apart: what comes before the first target, and the targets."""
    starts = (targets != IGNORED).int().argmax(1).tolist()
    prompts = [row[: start + 1] for row, start in zip(tokens.tolist(), starts, strict=True)]
    return prompts, [[token for token in row if token != IGNORED] for row in targets.tolist()]


def supervised_rows(
    prompts: Sequence[Tokens], answers: Sequence[Tokens], width: int
) -> tuple[Tensor, Tensor]:
    """Put prompts and answers together: tokens and targets, int64 (B, width) each."""
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    targets = torch.full_like(tokens, IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = torch.tensor([*prompt, *answer])
        tokens[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return tokens, targets
