"""Scores from a shared, steered cache held to reading each whole text alone."""

import pytest
import torch
from torch import Tensor, nn

from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.answer_scores import AnswerScorer
from lit_modules.generation.generate import generate
from lit_modules.generation.steered import SteeringVectors, steered
from lit_modules.networks.transformer_lm import TransformerLM

V, WIDTH = 17, 16
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6]]
ANSWERS = [[[5, 8, 9], [7]], [[9, 3, 2, 3]], [[8], [4, 6], [2, 6, 4, 3]]]


def build() -> TransformerLM:
    torch.manual_seed(0)
    network = TransformerLM(
        LanguageModelConfig(
            depth=3,
            width=WIDTH,
            num_heads=4,
            feed_forward_width=32,
            num_kv_heads=2,
            position="rotary",
            tie_embeddings=False,
        ),
        vocab_size=V,
        context_length=12,
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


def steers() -> list[SteeringVectors | None]:
    vectors = 2 * torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(3))
    return [
        None,
        SteeringVectors(layer=1, vectors=vectors),
        SteeringVectors(layer=0, vectors=vectors, factor=-0.5),
    ]


@torch.no_grad()
def alone(network: TransformerLM, row: int, answer: list[int], steer: SteeringVectors | None) -> Tensor:
    """Log-probabilities (T + 1, V) of the answer's tokens and of what follows them."""
    text, length = [*PROMPTS[row], *answer], len(PROMPTS[row])
    if steer is None:
        return network(torch.tensor([text]))[0, length - 1 :].log_softmax(-1)
    with steered(
        network,
        steer.select([row]),
        positions="generated",
        prompt_lengths=[length],
    ):
        return network(torch.tensor([text]))[0, length - 1 :].log_softmax(-1)


@pytest.mark.parametrize("steer", steers())
def test_answers_score_as_each_text_alone(steer: SteeringVectors | None) -> None:
    network = build()
    scorer = AnswerScorer(network, PROMPTS, longest_answer=4)
    for _ in range(2):  # the second time shows that nothing was changed by the first
        found = scorer.log_probabilities(ANSWERS, steer)
        for row, answers in enumerate(ANSWERS):
            for answer, score in zip(answers, found[row], strict=True):
                steps = alone(network, row, answer, steer)
                expected = steps[torch.arange(len(answer)), answer].mean().item()
                assert score == pytest.approx(expected, rel=1e-4, abs=1e-5)
        following = scorer.next_log_probabilities(steer)
        for row in range(len(PROMPTS)):
            torch.testing.assert_close(
                following[row], alone(network, row, [], steer)[0], rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
def test_outputs_without_a_token_do_not_count() -> None:
    network = build()
    answers = [[[1, 2]] for _ in PROMPTS]
    scorer = AnswerScorer(network, PROMPTS, longest_answer=2, vocab_size=V - 1)
    for row, ((score,), following) in enumerate(
        zip(scorer.log_probabilities(answers), scorer.next_log_probabilities(), strict=True)
    ):
        steps = network(torch.tensor([[*PROMPTS[row], 1, 2]]))[0, len(PROMPTS[row]) - 1 :, : V - 1]
        steps = steps.log_softmax(-1)
        assert score == pytest.approx((steps[0, 1] + steps[1, 2]).item() / 2, rel=1e-4)
        torch.testing.assert_close(following, steps[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steer", steers())
@pytest.mark.parametrize("stop_ids", [(), (0, 2, 5, 11)])
def test_answers_are_those_that_generating_from_each_whole_prompt_gives(
    steer: SteeringVectors | None, stop_ids: tuple[int, ...]
) -> None:
    network = build()
    scorer = AnswerScorer(network, PROMPTS, longest_answer=6, vocab_size=V - 1)
    settings = SamplingConfig(temperature=0.0, max_new_tokens=6, stop_ids=list(stop_ids))
    expected = []
    for row, prompt in enumerate(PROMPTS):
        if steer is None:
            expected += generate(network, [prompt], settings, vocab_size=V - 1)
            continue
        with steered(
            network,
            steer.select([row]),
            positions="generated",
        ) as rows:
            expected += generate(network, [prompt], settings, vocab_size=V - 1, on_read=rows.follow)
    for _ in range(2):  # the second time shows that nothing was changed by the first
        found = scorer.write(6, stop_ids=stop_ids, steering=steer)
        assert found == expected
    lengths = {len(answer) for answer in found}
    assert lengths == {6} if not stop_ids else min(lengths) < 6


def test_zero_vectors_beside_others_leave_an_answer_as_it_is() -> None:
    scorer = AnswerScorer(build(), PROMPTS, longest_answer=6)
    vectors = torch.zeros(len(PROMPTS), WIDTH)
    vectors[1] = 5 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    plain, some = scorer.write(6), scorer.write(6, steering=SteeringVectors(layer=1, vectors=vectors))
    assert [a == b for a, b in zip(plain, some, strict=True)] == [True, False, True]


def test_steering_makes_a_difference() -> None:
    scorer = AnswerScorer(build(), PROMPTS, longest_answer=4)
    plain, *others = (scorer.log_probabilities(ANSWERS, steer)[0][0] for steer in steers())
    assert all(abs(plain - other) > 0.01 for other in others)


def test_a_prompt_may_have_no_answers() -> None:
    scorer = AnswerScorer(build(), PROMPTS, longest_answer=4)
    some = scorer.log_probabilities([ANSWERS[0], [], []])
    assert some[0] == pytest.approx(scorer.log_probabilities(ANSWERS)[0], rel=1e-5)
    assert some[1:] == [[], []]
    assert scorer.log_probabilities([[], [], []]) == [[], [], []]


def test_as_many_answers_as_prompts_leave_the_prompts_as_they_were() -> None:
    """However they are shared out: the third prompt has two here, and the second none."""
    scorer = AnswerScorer(build(), PROMPTS, longest_answer=4)
    before = scorer.log_probabilities(ANSWERS)
    some = scorer.log_probabilities([ANSWERS[0][:1], [], ANSWERS[2][:2]])
    assert some[0] + some[2] == pytest.approx([before[0][0], *before[2][:2]], rel=1e-5)
    for own, again in zip(before, scorer.log_probabilities(ANSWERS), strict=True):
        assert again == pytest.approx(own, rel=1e-5)


def test_refuses_what_can_not_be_read() -> None:
    network = build()
    with pytest.raises(ValueError, match="a prompt is empty"):
        AnswerScorer(network, [[1], []])
    with pytest.raises(
        ValueError, match="a prompt and its answer have 13 tokens, more than the context length 12"
    ):
        AnswerScorer(network, [[1] * 10], longest_answer=4)
    with pytest.raises(ValueError, match="an answer is empty"):
        AnswerScorer(network, [[1]]).log_probabilities([[[]]])
    with pytest.raises(ValueError, match="max_new_tokens is 3, allowed is at most longest_answer 2"):
        AnswerScorer(network, [[1]], longest_answer=2).write(3)
    with pytest.raises(ValueError, match="the cache is full: its capacity is 1 tokens"):
        AnswerScorer(network, [[1]]).log_probabilities([[[1, 2]]])
