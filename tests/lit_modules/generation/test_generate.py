"""Continuations held to a loop that recomputes one row's window at every token."""

import random
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.functional.sampling import sample_token, temperature, top_k
from lit_modules.generation.generate import choose, generate
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.recurrent_lm import RecurrentLM
from lit_modules.networks.transformer_lm import TransformerLM

V, CONTEXT = 31, 16
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7]]
KINDS: dict[str, dict[str, Any]] = {
    "rotary": {"position": "rotary", "norm": "rms_norm", "num_kv_heads": 2, "qk_norm": True},
    "learned": {"position": "learned"},
}


def build(kind: str = "rotary", *, context: int = CONTEXT, dropout: float = 0.0) -> TransformerLM:
    """A random network whose next token depends on all of its window."""
    options = dict(KINDS[kind])
    torch.manual_seed(0)
    network = TransformerLM(
        LanguageModelConfig(
            depth=2,
            tie_embeddings=False,
            width=16,
            num_heads=4,
            feed_forward_width=32,
            dropout=dropout,
            **options,
        ),
        vocab_size=V,
        context_length=context,
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.7)
    return network.eval()


@torch.no_grad()
def by_one_row(network: TransformerLM, prompt: list[int], settings: SamplingConfig) -> list[int]:
    """What `generate` says it does, for one prompt and as plainly as can be."""
    chance = random.Random(settings.seed)
    window, new = prompt[-network.context_length :], []
    for _ in range(settings.max_new_tokens):
        logits = network(torch.tensor([window]))[:, -1].double()
        penalize = transformers.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)
        logits = penalize(torch.tensor([[*prompt, *new]]), logits)
        uniform = torch.tensor([chance.random()], dtype=torch.float64)
        if settings.temperature == 0:
            token = int(logits.argmax())
        else:
            logits = temperature(logits, settings.temperature)
            token = int(
                sample_token(logits if settings.top_k is None else top_k(logits, settings.top_k), uniform)
            )
        if token in settings.stop_ids:
            break
        new.append(token)
        window = [*window, token]
        if len(window) > network.context_length:
            window = window[-max(1, network.context_length // 2) :]
    return new


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        SamplingConfig(temperature=0, max_new_tokens=60),
        SamplingConfig(max_new_tokens=60),
        SamplingConfig(temperature=0.7, top_k=5, seed=3, max_new_tokens=60),
        SamplingConfig(stop_ids=[0, 7, 11], max_new_tokens=60),
    ],
    ids=["greedy", "as it is", "top-k", "stops"],
)
def test_each_row_of_a_batch_is_continued_as_if_alone(
    kind: str, use_cache: bool, settings: SamplingConfig
) -> None:
    """Prompts of three lengths, all of which outgrow the context more than once, or stop at some token."""
    network = build(kind)
    expected = [by_one_row(network, prompt, settings) for prompt in PROMPTS]
    assert generate(network, PROMPTS, settings, use_cache=use_cache) == expected
    for prompt, alone in zip(PROMPTS, expected, strict=True):
        assert generate(network, [prompt], settings, use_cache=use_cache) == [alone]
    assert len({tuple(row) for row in expected}) == 3
    if settings.stop_ids:
        assert len({len(row) for row in expected}) > 1
        assert not set(settings.stop_ids) & {token for row in expected for token in row}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_network_laid_out_for_generating_gives_the_same_tokens(kind: str, use_cache: bool) -> None:
    network, settings = build(kind), SamplingConfig(stop_ids=[0, 7, 11], max_new_tokens=60)
    expected = generate(network, PROMPTS, settings)
    assert len({len(row) for row in expected}) > 1  # rows end one by one, and the others go on
    assert generate(DecodingLM(network), PROMPTS, settings, use_cache=use_cache) == expected


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_network_goes_on_from_its_state(cell: Any) -> None:
    torch.manual_seed(0)
    network = RecurrentLM(vocab_size=V, hidden_size=12, cell=cell, num_layers=2).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    settings = SamplingConfig(stop_ids=[0, 5, 7, 11], max_new_tokens=40)
    cached = generate(network, PROMPTS, settings, seeds=[0, 1, 2])
    assert generate(network, PROMPTS, settings, seeds=[0, 1, 2], use_cache=False) == cached
    for seed, (prompt, row) in enumerate(zip(PROMPTS, cached, strict=True)):
        assert generate(network, [prompt], settings, seeds=[seed]) == [row]
    assert len({len(row) for row in cached}) > 1


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("context", [1, 2, 3, 5])
def test_a_prompt_longer_than_the_context_is_read_from_its_end(context: int, use_cache: bool) -> None:
    network, settings = build(context=context), SamplingConfig(max_new_tokens=9)
    long = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    expected = by_one_row(network, long, settings)
    assert generate(network, [long, [4]], settings, use_cache=use_cache)[0] == expected
    assert generate(network, [long[-context:]], settings, use_cache=use_cache) == [expected]


def test_the_cache_computes_each_token_once_and_drops_rows_that_stopped() -> None:
    network, seen = build(context=100), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    settings = SamplingConfig(max_new_tokens=6)
    ends = {(0, 1), (2, 3)}  # row and how many tokens it has

    def end(row: int, token: int) -> bool:
        counts[row] += 1
        return (row, counts[row]) in ends

    counts = [0, 0, 0]
    new = generate(network, PROMPTS, settings, on_token=end)
    assert [len(row) for row in new] == [1, 6, 3]
    assert seen == [(3, 8), (2, 1), (2, 1), (1, 1), (1, 1), (1, 1)]
    counts, uncut = [0, 0, 0], generate(network, PROMPTS, settings)
    assert new == [uncut[0][:1], uncut[1], uncut[2][:3]]
    seen.clear()
    assert generate(network, PROMPTS, settings, use_cache=False, on_token=end) == new
    assert seen[:4] == [(3, 8), (2, 9), (2, 10), (1, 4)]


def test_beyond_the_context_half_of_it_is_read_anew() -> None:
    network, seen = build(context=8), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    generate(network, [[1, 2, 3]], SamplingConfig(max_new_tokens=15))
    once = [(1, 1)] * 4
    assert seen == [(1, 3), *once, (1, 1), (1, 4), *once, (1, 4), *once[:3]]


def test_tokens_are_reported_as_they_come() -> None:
    network, told = build(), []  # type: tuple[TransformerLM, list[tuple[int, int]]]
    new = generate(
        network, PROMPTS, SamplingConfig(max_new_tokens=4), on_token=lambda r, t: told.append((r, t))
    )
    assert told == [(row, new[row][step]) for step in range(4) for row in range(3)]


def test_the_end_of_each_row_is_reported_once() -> None:
    events: list[Any] = []
    settings = SamplingConfig(stop_ids=[0, 7, 11], max_new_tokens=12)

    def on_token(row: int, token: int) -> bool:
        events.append((row, token))
        return row == 1 and sum(event[0] == 1 for event in events) == 3

    network = build()
    new = generate(
        network, PROMPTS, settings, on_token=on_token, on_end=lambda row: events.append((row, "end"))
    )
    assert sorted(len(row) for row in new) != [12, 12, 12]
    for row in range(3):
        assert [what for number, what in events if number == row] == [*new[row], "end"]


def test_seeds_decide_the_draws() -> None:
    network, settings = build(), SamplingConfig(max_new_tokens=20)
    same = generate(network, [PROMPTS[0]] * 3, settings)
    assert same[0] == same[1] == same[2]
    several = generate(network, [PROMPTS[0]] * 3, settings, seeds=[0, 1, 2])
    assert several[0] == same[0]
    assert len({tuple(row) for row in several}) == 3
    torch.manual_seed(99)
    assert generate(network, [PROMPTS[0]], settings) == same[:1]


def test_neither_mode_nor_generators_are_touched() -> None:
    network = build(dropout=0.5)
    expected = generate(network, PROMPTS, SamplingConfig(max_new_tokens=5))
    network.train()
    network.trunk.layers[0].eval()
    states = random.getstate(), torch.get_rng_state()
    assert generate(network, PROMPTS, SamplingConfig(max_new_tokens=5)) == expected
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert network.training
    assert network.trunk.layers[1].training
    assert not network.trunk.layers[0].training


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_repetition_penalty_counts_the_prompt_and_what_is_long_out_of_sight(use_cache: bool) -> None:
    network = build(context=4)
    settings = SamplingConfig(temperature=0, repetition_penalty=1.4, max_new_tokens=30)
    expected = [by_one_row(network, prompt, settings) for prompt in PROMPTS]
    assert generate(network, PROMPTS, settings, use_cache=use_cache) == expected
    settings.repetition_penalty = 1.0
    assert generate(network, PROMPTS, settings, use_cache=use_cache) != expected


def test_choosing_applies_every_setting() -> None:
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]])).expand(4000, 5)
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(**settings: Any) -> list[float]:
        tokens = choose(logits, SamplingConfig(**settings), uniform)
        return (torch.bincount(tokens, minlength=5) / 4000).tolist()

    assert shares() == pytest.approx([0.4, 0.3, 0.15, 0.1, 0.05], abs=0.03)
    assert shares(temperature=0) == [1, 0, 0, 0, 0]
    assert shares(top_k=2) == pytest.approx([4 / 7, 3 / 7, 0, 0, 0], abs=0.03)
    assert shares(top_p=0.8) == pytest.approx([40 / 85, 30 / 85, 15 / 85, 0, 0], abs=0.03)
    assert shares(min_p=0.3) == pytest.approx([40 / 85, 30 / 85, 15 / 85, 0, 0], abs=0.03)
    squared = [p * p / 0.285 for p in (0.4, 0.3, 0.15, 0.1, 0.05)]
    assert shares(temperature=0.5) == pytest.approx(squared, abs=0.03)
    seen = torch.tensor([[True, False, False, False, False]]).expand(4000, 5)
    penalised = choose(logits, SamplingConfig(temperature=0, repetition_penalty=1.5), uniform, seen)
    assert penalised.unique().tolist() == [1]


def test_rows_beyond_the_vocabulary_are_never_chosen() -> None:
    network, settings = build(), SamplingConfig(temperature=5.0, max_new_tokens=200, repetition_penalty=1.1)
    (new,) = generate(network, [[1, 2]], settings, vocab_size=12)
    assert set(new) == set(range(12))
    with pytest.raises(ValueError, match="has token 12, the vocabulary has 0 … 11"):
        generate(network, [[12]], settings, vocab_size=12)


def test_what_cannot_be_continued_is_named() -> None:
    network = build()
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(network, [[1], []], SamplingConfig())
    for wrong in (V, -1):
        with pytest.raises(ValueError, match=rf"prompt 0 has token {wrong}, the vocabulary has 0 … 30"):
            generate(network, [[1, wrong]], SamplingConfig())
    with pytest.raises(ValueError, match="2 prompts need one seed each, got 1"):
        generate(network, [[1], [2]], SamplingConfig(), seeds=[0])
    nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(ValueError, match="row 0: its logits contain NaN"):
        generate(network, [[1]], SamplingConfig())
    assert generate(build(), [], SamplingConfig()) == []
