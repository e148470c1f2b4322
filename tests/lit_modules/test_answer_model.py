"""Answers that are sampled, rewarded and learned from, at sizes where each number can be checked."""

import doctest
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.addition import ALPHABET, AdditionDataModule
from datamodules.configs.addition import AdditionConfig
from datamodules.info import TextInfo
from lit_modules.answer_model import AnswerModel
from lit_modules.char_rnn import CharRNN
from lit_modules.configs.answer_model import AnswerModelConfig
from lit_modules.configs.char_rnn import CharRNNConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.objective import CrossEntropyConfig, GRPOConfig
from lit_modules.functional import policy
from lit_modules.generation.rollout import Rollout, answer_log_probs
from lit_modules.grpo import GRPO
from lit_modules.language_model import LanguageModel
from lit_modules.objective import CrossEntropy

SIZES = {"train_size": 12, "val_size": 4, "test_size": 6, "longer_size": 2, "batch_size": 6}
CONFIG = AnswerModelConfig(depth=1, width=16, num_heads=2, position="rotary", test_samples=3)


def reward(prompt: list[int], answer: list[int], given: list[int]) -> float:
    """The share of digits 0, so that even an untrained network gets rewards."""
    return answer.count(ALPHABET.index("0")) / max(len(answer), 1)


def data() -> AdditionDataModule:
    return AdditionDataModule(AdditionConfig(max_digits=2, **SIZES))


def model(config: AnswerModelConfig = CONFIG, **settings: Any) -> AnswerModel:
    torch.manual_seed(0)
    info = data().info
    module = AnswerModel(config, info, reward=reward, objective=GRPO(GRPOConfig(**settings), info))
    with torch.no_grad():
        module.network.embedding.weight[ALPHABET.index("\n")] *= 3  # ends soon
    return module


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the step and the accumulated batches of the Trainer."""

    def at(step: int, accumulate: int = 1) -> None:
        trainer = SimpleNamespace(global_step=step, accumulate_grad_batches=accumulate)
        monkeypatch.setattr(AnswerModel, "trainer", trainer)

    monkeypatch.setattr(AnswerModel, "global_rank", 0)
    at(0)
    return at


def batch(part: str = "train") -> Any:
    return tuple(tensor[:3] for tensor in data().split(part))


def test_a_step_samples_a_group_for_each_prompt_and_rewards_it(at_step: Any) -> None:
    module = model(group_size=4, kl_weight=0.1)
    module.on_train_start()
    outputs = module.training_step(batch(), 0)
    (made,) = module._rollouts
    prompts, _ = batch()
    for row in range(12):
        start = int(made.mask[row].int().argmax())
        assert torch.equal(made.tokens[row, : start + 1], prompts[row // 4, : start + 1])
        assert ALPHABET[int(made.tokens[row, start])] == "="
        answer = made.targets[row][made.mask[row]].tolist()
        ended = answer[-1] == ALPHABET.index("\n")
        assert made.rewards[row].item() == pytest.approx(reward([], answer[:-1], []) if ended else 0)
    assert len({tuple(row) for row in made.targets.tolist()}) > 6  # the samples of a group differ
    assert outputs["curves"]["reward"] == made.rewards.mean()
    assert outputs["curves"]["answer_length"] == made.mask.sum(1).float().mean()
    assert outputs["curves"]["kl"] == 0
    assert outputs["curves"]["clip_fraction"] == 0
    outputs["loss"].backward()
    assert module.network.embedding.weight.grad is not None
    assert len(list(module.parameters())) == len(list(module.network.parameters()))


def test_the_worked_example_of_grpo_loss_is_what_training_computes(
    at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = vars(policy).copy()
    (example,) = doctest.DocTestFinder().find(policy.grpo_loss, globs=names)
    doctest.DocTestRunner().run(example, clear_globs=False)
    found = example.globs

    class Stored(nn.Module):
        """A network with the probabilities of the example for token 0."""

        def forward(self, tokens: Tensor) -> Tensor:
            log_probs = found["log_probs"]
            return torch.stack([log_probs, (-log_probs.expm1()).log()], dim=-1)

    module = model(group_size=2, inner_epochs=2)
    module.network = Stored()  # type: ignore[assignment]
    rewards = torch.tensor([1.0, 0.0])
    targets = torch.zeros(2, 2, dtype=torch.long).masked_fill(~found["mask"], -100)
    objective: Any = module.objective
    made = Rollout(
        tokens=torch.zeros_like(targets),
        targets=targets,
        rewards=rewards,
        advantages=objective.advantages(rewards),
        old_log_probs=found["old_log_probs"],
    )
    module._rollouts = [made]
    at_step(1)  # the second step on these answers
    outputs = module.training_step(batch(), 0)
    assert outputs["loss"].item() == found["loss"].item()
    assert outputs["curves"]["clip_fraction"] == torch.tensor(1 / 3)


@pytest.mark.parametrize("clip", [0.0, 0.2])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_answers_are_used_again_and_the_ratio_starts_at_one(at_step: Any, ratio: str, clip: float) -> None:
    module = model(group_size=4, inner_epochs=2, ratio=ratio, clip=clip, normalization="none")
    plain = model(group_size=4, ratio="none", normalization="none")
    losses = []
    for each in (module, plain):
        torch.manual_seed(1)  # for the same samples
        losses.append(each.training_step(batch(), 0)["loss"])
    (made,) = module._rollouts
    assert torch.equal(made.targets, plain._rollouts[0].targets)
    for each, loss in zip((module, plain), losses, strict=True):
        loss.backward()
        assert each.network.embedding.weight.grad is not None
    torch.testing.assert_close(module.network.embedding.weight.grad, plain.network.embedding.weight.grad)
    assert made.old_log_probs is not None
    torch.testing.assert_close(
        made.old_log_probs[made.mask], answer_log_probs(module.network, made)[0][made.mask]
    )
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter -= 1e-4 * parameter.grad  # type: ignore[operator]
    at_step(1)
    again = module.training_step(batch(), 1)
    assert module._rollouts == [made]
    assert "reward" not in again["curves"]
    assert (again["curves"]["clip_fraction"] > 0) == (clip == 0)
    at_step(2)
    module.training_step(batch(), 2)
    assert module._rollouts[0] is not made


def test_learned_probabilities_have_the_temperature_of_the_sampling(at_step: Any) -> None:
    module = model(group_size=2, inner_epochs=2, kl_weight=0.1, temperature=0.5)
    module.on_train_start()
    outputs = module.training_step(batch(), 0)
    (made,) = module._rollouts
    logits = module.network(made.tokens) / 0.5
    expected = logits.log_softmax(-1).gather(-1, made.targets.clamp(min=0)[..., None])[..., 0]
    for found in (made.old_log_probs, made.reference_log_probs):
        assert found is not None
        torch.testing.assert_close(found[made.mask], expected[made.mask])
    entropy = torch.distributions.Categorical(logits=logits).entropy()[made.mask].mean()
    torch.testing.assert_close(outputs["curves"]["entropy"], entropy)


def test_each_accumulated_batch_has_answers_of_its_own(at_step: Any) -> None:
    module = model(group_size=2, inner_epochs=2)
    at_step(0, accumulate=2)
    module.training_step(batch(), 0)
    module.training_step(batch(), 1)
    kept = list(module._rollouts)
    assert len(kept) == 2
    assert not torch.equal(kept[0].targets, kept[1].targets)
    at_step(1, accumulate=2)
    for index in (2, 3):
        module.training_step(batch(), index)
    assert all(a is b for a, b in zip(module._rollouts, kept, strict=True))


def test_another_objective_trains_on_the_given_answers(at_step: Any) -> None:
    module = AnswerModel(CONFIG, data().info, reward=reward, objective=CrossEntropy(CrossEntropyConfig()))
    tokens, targets = batch()
    outputs = module.training_step((tokens, targets), 0)
    logits = module.network(tokens)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(outputs["loss"], expected)
    assert outputs["curves"] == {"token_passes": 3 * tokens.numel()}


def test_the_test_counts_greedy_and_sampled_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = model()
    monkeypatch.setattr(module, "reward", lambda prompt, answer, given: float(len(answer) == 3))
    tokens, targets, longer = data().split("test")
    outputs = module.evaluation_step((tokens, targets, longer), 0, "test")
    assert outputs["correct"].shape == (8, 4)
    assert torch.equal(outputs["longer"], longer)
    assert torch.equal(
        outputs["correct"], module.evaluation_step((tokens, targets, longer), 0, "test")["correct"]
    )
    assert module.evaluation_step((tokens, targets, longer), 0, "val")["correct"].shape == (8, 1)
    assert set(module.build_metrics("test")) == {
        "loss",
        "exact_match",
        "pass_at_3",
        "exact_match_longer",
        "pass_at_3_longer",
    }
    assert set(module.build_metrics("val")) == {"loss", "exact_match"}


def test_a_cut_off_answer_has_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    module = model()
    monkeypatch.setattr(module, "reward", lambda prompt, answer, given: 1.0)
    end = module.info.answer_end
    assert module._rewards([[1], [1]], [[5, end], [5, 5]], [[5, end], [5, end]]) == [1, 0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one answer to each prompt; choose"):
        AnswerModel(CONFIG, TextInfo(vocab_size=5, context_length=4))
    config = LanguageModelConfig(depth=1, width=16, num_heads=2)
    with pytest.raises(ValueError, match="language_model can't read prompts with answers"):
        LanguageModel(config, data().info)
    with pytest.raises(ValueError, match="char_rnn can't read prompts with answers"):
        CharRNN(CharRNNConfig(), data().info)
    for name in ("dropout", "hidden_dropout", "attention_dropout"):
        with pytest.raises(ValueError, match="set every dropout to 0"):
            model(AnswerModelConfig(depth=1, width=16, num_heads=2, **{name: 0.1}))


def test_the_divergence_is_from_the_weights_that_training_started_from(at_step: Any) -> None:
    module = model(group_size=2, kl_weight=0.1)
    module.on_train_start()
    with torch.no_grad():
        module.network.head.weight += 0.1 * torch.randn_like(module.network.head.weight)
    assert module.training_step(batch(), 0)["curves"]["kl"] > 0
    saved: dict[str, Any] = {}
    module.on_save_checkpoint(saved)
    resumed = model(group_size=2, kl_weight=0.1)
    resumed.network.load_state_dict(module.network.state_dict())
    resumed.on_load_checkpoint(saved)
    resumed.on_train_start()
    (made,) = module._rollouts
    rollout, _ = resumed._sample(batch())
    (reference,) = resumed._reference
    torch.testing.assert_close(
        answer_log_probs(reference, made)[0][made.mask],
        made.reference_log_probs[made.mask],  # type: ignore[index]
    )
    assert rollout.reference_log_probs is not None
