"""Sampled answers are laid out like training data, and are those of `generate`."""

import torch

from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.generate import generate
from lit_modules.generation.rollout import (
    Rollout,
    answer_log_probs,
    prompts_and_answers,
    sample_answers,
    supervised_rows,
)
from lit_modules.networks.transformer_lm import TransformerLM

PROMPTS, ANSWERS = [[3, 4], [5], [6, 7, 8]], [[9, 0], [1, 2, 0], [2]]


def network() -> TransformerLM:
    torch.manual_seed(0)
    config = LanguageModelConfig(depth=2, width=16, num_heads=2, position="rotary", linear_std=1.0)
    return TransformerLM(config, vocab_size=10, context_length=12)


def rollout() -> Rollout:
    tokens, targets = supervised_rows(PROMPTS, ANSWERS, 8)
    return Rollout(tokens=tokens, targets=targets, rewards=torch.ones(3), advantages=torch.arange(3.0))


def test_rows_are_prompt_and_answer_with_the_next_token_as_target() -> None:
    made = rollout()
    assert made.tokens.tolist() == [
        [3, 4, 9, 0, 0, 0, 0, 0],
        [5, 1, 2, 0, 0, 0, 0, 0],
        [6, 7, 8, 0, 0, 0, 0, 0],
    ]
    ignored = -100
    assert made.targets.tolist() == [
        [ignored, 9, 0, *[ignored] * 5],
        [1, 2, 0, *[ignored] * 5],
        [ignored, ignored, 2, *[ignored] * 5],
    ]
    assert prompts_and_answers(made.tokens, made.targets) == (PROMPTS, ANSWERS)


def test_a_part_has_chosen_rows_without_common_padding() -> None:
    part = rollout().part(torch.tensor([2, 0]))
    assert part.tokens.tolist() == [[6, 7, 8], [3, 4, 9]]
    assert part.advantages.tolist() == [2, 0]
    assert part.old_log_probs is None


def test_log_probabilities_are_those_of_each_answer_alone() -> None:
    net, made = network(), rollout()
    log_probs, logits = answer_log_probs(net, made)
    assert logits.shape == (3, 8, 10)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        alone = net(torch.tensor([[*prompt, *answer]]))[0].log_softmax(-1)
        start = len(prompt) - 1
        expected = torch.stack([alone[start + i, token] for i, token in enumerate(answer)])
        torch.testing.assert_close(log_probs[row][made.mask[row]], expected)


def test_answers_are_those_of_generate_and_end_with_the_stop_id_unless_cut_off() -> None:
    net = network()
    settings = SamplingConfig(max_new_tokens=6, stop_ids=[0])
    prompts, seeds = PROMPTS * 8, range(24)
    made = sample_answers(net, prompts, settings, list(seeds))
    plain = generate(net, prompts, settings, seeds=list(seeds), use_cache=False)
    ended = [len(answer) < 6 for answer in plain]
    assert {True, False} == set(ended)
    assert made == [[*a, 0] if end else a for a, end in zip(plain, ended, strict=True)]
    assert net.training
