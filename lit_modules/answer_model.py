"""The answer model: a language model that learns to answer prompts, from given answers or from rewards."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import TextInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.answer_model import AnswerModelConfig
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.rollout import (
    Rollout,
    answer_log_probs,
    prompts_and_answers,
    sample_answers,
    supervised_rows,
)
from lit_modules.grpo import GRPO
from lit_modules.language_model import Batch, LanguageModel
from lit_modules.metrics.answer_metrics import ExactMatch
from lit_modules.networks.transformer_lm import TransformerLM

Tokens = list[int]
Reward = Callable[[Tokens, Tokens, Tokens], float]
"""From the tokens of a prompt, an answer and the given answer, both without their end, to a number."""


class AnswerModel(LanguageModel):
    """A language model on rows of a prompt and its answer, evaluated by the answers that it generates.

    With the objective `grpo` a training step takes only the prompts of its batch. It samples answers,
    computes their rewards, and makes the better answers of each group more probable. Any other objective
    trains on the answers of the data.

    Validation generates greedy answers and logs `exact_match`, the share of answers with reward 1. The test
    also samples k answers to each problem and logs `pass_at_k`, the share of problems with a correct one.
    Problems that are longer than those of the training have metrics of their own.

    Args:
        config: The network.
        info: The description of the data.
        reward: The reward of an answer; needed for training with `grpo` and for any evaluation.
        training: See `LitModule`.

    Raises:
        ValueError: The data does not have one answer to each prompt, or the network has dropout although it
            learns from rewards.
    """

    dashboard = None
    data_names = ("addition",)

    config: AnswerModelConfig
    network: TransformerLM

    def __init__(
        self, config: AnswerModelConfig, info: TextInfo, *, reward: Reward | None = None, **training: Any
    ) -> None:
        super().__init__(config, info, **training)
        self.reward = reward
        is_grpo = isinstance(self.objective, GRPO)
        if is_grpo and max(config.dropout, config.hidden_dropout, config.attention_dropout) > 0:
            raise ValueError("dropout: grpo compares probabilities of one network; set every dropout to 0")
        # In a list, so that the model has no such submodule: it is not trained, averaged or evaluated.
        self._reference: list[TransformerLM] = []
        self._saved_reference: dict[str, Tensor] | None = None
        self._rollouts: list[Rollout] = []  # of the batches of one optimizer step

    def check_data(self, info: TextInfo) -> None:
        """Refuse data without one answer to each prompt.

        Raises:
            ValueError: The data has none.
        """
        if not info.answer_length:
            raise ValueError("answer_model needs one answer to each prompt; choose data.name addition")

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Measure greedy answers; in the test also sampled answers and longer problems."""
        metrics = {**LitModule.build_metrics(self, stage), "exact_match": ExactMatch()}
        if stage == "val":
            return metrics
        passed = f"pass_at_{self.config.test_samples}"
        return {
            **metrics,
            passed: ExactMatch(sampled=True),
            "exact_match_longer": ExactMatch(longer=True),
            f"{passed}_longer": ExactMatch(longer=True, sampled=True),
        }

    # --------------------------------------------------------------------------------------------- training

    def on_train_start(self) -> None:
        """Copy the network for the divergence from it; move restored answers to the device."""
        self._rollouts = [rollout.to(self.device) for rollout in self._rollouts]
        if isinstance(self.objective, GRPO) and self.objective.config.kl_weight > 0:
            reference = copy.deepcopy(self.network).requires_grad_(False)
            if self._saved_reference is not None:
                reference.load_state_dict(self._saved_reference)
            self._reference = [reference]

    @property
    def steps_are_alike(self) -> bool:  # type: ignore[override]
        """Whether a step doesn't write answers first."""
        return not isinstance(self.objective, GRPO)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the objective, and the curves of a step.

        `token_passes` counts the tokens that a step sends through a network. A backward pass counts twice.
        """
        if not isinstance(self.objective, GRPO):
            passes = torch.tensor(3.0 * batch[0].numel())
            return {**super().training_step(batch, batch_idx), "curves": {"token_passes": passes}}
        curves = self._prepare_rollout(batch, batch_idx)
        position = batch_idx % self.trainer.accumulate_grad_batches
        whole = self._rollouts[position]
        rows = self.objective.rows(whole)
        rollout = whole.part(rows)
        temperature = self.objective.config.temperature
        log_probs, logits = answer_log_probs(self.network, rollout, temperature=temperature)
        if whole.old_log_probs is None and self.objective.config.inner_epochs > 1:
            old = torch.zeros_like(whole.targets, dtype=log_probs.dtype)
            old[rows, : log_probs.shape[1]] = log_probs.detach()
            self._rollouts[position] = replace(whole, old_log_probs=old)
        curves |= self.objective.curves(log_probs.detach(), logits.detach(), rollout)
        curves["token_passes"] = curves.get("token_passes", 0) + torch.tensor(3.0 * rollout.tokens.numel())
        return {"loss": self.objective(log_probs, rollout), "targets": rollout.targets, "curves": curves}

    def _prepare_rollout(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Sample answers, unless those of an earlier step are used again; return the curves of new answers.

        The answers of each batch of an optimizer step are kept for `inner_epochs` steps.
        """
        assert isinstance(self.objective, GRPO)
        position = batch_idx % self.trainer.accumulate_grad_batches
        if position == 0 and self.trainer.global_step % self.objective.config.inner_epochs == 0:
            self._rollouts = []
        if position < len(self._rollouts):
            return {}
        rollout, passes = self._sample(batch)
        self._rollouts.append(rollout)
        lengths = rollout.mask.sum(1)
        return {
            "reward": rollout.rewards.mean(),
            "answer_length": lengths.float().mean(),
            "token_passes": torch.tensor(float(passes)),
        }

    @torch.no_grad()
    def _sample(self, batch: Batch) -> tuple[Rollout, int]:
        """Sample a group of answers to each prompt; return them, and the number of token passes."""
        assert isinstance(self.objective, GRPO)
        settings = self.objective.config
        prompts, given = prompts_and_answers(*batch)
        prompts, given = (
            [row for row in rows for _ in range(settings.group_size)] for rows in (prompts, given)
        )
        # The state of PyTorch's generator belongs to a checkpoint, so a resumed run draws the same seeds.
        seeds = (torch.randint(2**62, (len(prompts),)) + self.global_rank).tolist()
        answers = sample_answers(self.network, prompts, self._sampling(settings.temperature), seeds)
        rewards = torch.tensor(self._rewards(prompts, answers, given))
        tokens, targets = supervised_rows(prompts, answers, self.info.context_length)
        rollout = Rollout(
            tokens=tokens,
            targets=targets,
            rewards=rewards,
            advantages=self.objective.advantages(rewards),
        ).to(self.device)
        passes = sum(map(len, prompts)) + sum(map(len, answers))
        for reference in self._reference:
            part = rollout.part(torch.arange(len(tokens), device=self.device))
            log_probs, _ = answer_log_probs(reference, part, temperature=settings.temperature)
            whole = torch.zeros_like(rollout.targets, dtype=log_probs.dtype)
            whole[:, : log_probs.shape[1]] = log_probs
            rollout, passes = replace(rollout, reference_log_probs=whole), passes + part.tokens.numel()
        return rollout, passes

    def _sampling(self, temperature: float) -> SamplingConfig:
        info = self.info
        return SamplingConfig(
            temperature=temperature, max_new_tokens=info.answer_length, stop_ids=[info.answer_end]
        )

    def _rewards(self, prompts: list[Tokens], answers: list[Tokens], given: list[Tokens]) -> list[float]:
        """Return the reward of each answer; an answer that is cut off has reward 0."""
        assert self.reward is not None
        end = self.info.answer_end
        return [
            self.reward(prompt, answer[:-1], right[:-1]) if answer[-1] == end else 0.0
            for prompt, answer, right in zip(prompts, answers, given, strict=True)
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the reference, and the answers that the next steps use again, each tensor (ranks, …)."""
        for reference in self._reference:
            checkpoint["reference"] = reference.state_dict()
        if isinstance(self.objective, GRPO) and self.trainer.global_step % self.objective.config.inner_epochs:
            checkpoint["rollouts"] = [
                {
                    name: None if value is None else self.all_gather(value).reshape(-1, *value.shape)
                    for name, value in rollout.to_dict().items()
                }
                for rollout in self._rollouts
            ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the reference, and the answers that the next steps use again."""
        self._saved_reference = checkpoint.get("reference")
        self._rollouts = []
        for saved in checkpoint.get("rollouts", []):
            own: dict[str, Any] = {
                name: None if value is None else value[min(self.global_rank, len(value) - 1)]
                for name, value in saved.items()
            }
            self._rollouts.append(Rollout(**own))

    # ------------------------------------------------------------------------------------------- evaluation

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the losses on the given answers, and which generated answers are correct, (B, 1 + k)."""
        tokens, targets, longer = batch
        outputs = super().evaluation_step((tokens, targets), batch_idx, stage)
        prompts, given = prompts_and_answers(tokens, targets)
        count = self.config.test_samples if stage == "test" else 0
        repeated = [[row for row in rows for _ in range(count)] for rows in (prompts, given)]
        greedy = sample_answers(self.network, prompts, self._sampling(0.0), [0] * len(prompts))
        right = torch.tensor(self._rewards(prompts, greedy, given)).unsqueeze(1) >= 1  # (B, 1)
        if count:
            first = batch_idx * len(repeated[0])
            seeds = range(first, first + len(repeated[0]))
            sampled = sample_answers(self.network, repeated[0], self._sampling(1.0), seeds)
            rewards = torch.tensor(self._rewards(repeated[0], sampled, repeated[1]))
            right = torch.cat([right, rewards.view(-1, count) >= 1], dim=1)
        return {**outputs, "correct": right.to(self.device), "longer": longer}

    def metric_inputs(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return which answers are correct, and which problems are longer than those of the training."""
        return outputs["correct"], outputs["longer"]
