"""Oracles: every target there is, and a beam search in plain Python that scores each by itself."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.generation.beam_search import beam_search, greedy_search
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.networks.encoder_decoder import EncoderDecoder

V, LONGEST = 6, 4
SOURCE = torch.tensor([[3, 4, 5, 3, EOS], [5, 5, EOS, PAD, PAD], [4, EOS, PAD, PAD, PAD]])

Scored = list[tuple[float, list[int]]]


def build(seed: int = 0, *, vocab: int = V, **options: Any) -> EncoderDecoder:
    layers = {"width": 8, "num_heads": 2, "feed_forward_width": 12, "position": "learned"} | options
    network = EncoderDecoder(
        Seq2SeqConfig(depth=1, decoder_depth=2, tie_embeddings=False, **layers),
        source_vocab_size=6,
        target_vocab_size=vocab,
        source_length=9,
        target_length=9,
        # random ones make each step another, so that targets end here and there
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        network.target_positions.table.weight.mul_(4.0)
    return network.eval()


def score(network: EncoderDecoder, source: Tensor, tokens: list[int], length_penalty: float) -> float:
    with torch.no_grad():
        log_probs = network(source, torch.tensor([[BOS, *tokens[:-1]]]))[0].log_softmax(-1)
    total = sum(float(log_probs[t, token]) for t, token in enumerate(tokens))
    return total / len(tokens) ** length_penalty


def every_target(network: EncoderDecoder, source: Tensor, length_penalty: float) -> Scored:
    """Those that end within LONGEST tokens, and those that are cut there; best first."""
    words = [list(word) for n in range(LONGEST) for word in product(range(3, V), repeat=n)]
    targets = [[*word, EOS] for word in words]
    targets += [list(word) for word in product(range(3, V), repeat=LONGEST)]
    return sorted(((score(network, source, t, length_penalty), t) for t in targets), reverse=True)


def plain_beam(network: EncoderDecoder, source: Tensor, size: int, length_penalty: float) -> Scored:
    beam: Scored = [(0.0, [])]
    for _ in range(LONGEST):
        grown = [tokens for _, tokens in beam if tokens[-1:] == [EOS]]
        for _, tokens in beam:
            if tokens[-1:] != [EOS]:
                grown += [[*tokens, token] for token in range(EOS, V)]
        beam = sorted(((score(network, source, t, length_penalty), t) for t in grown), reverse=True)[:size]
    return beam


def found(network: EncoderDecoder, source: Tensor, **settings: Any) -> list[Scored]:
    result = beam_search(network, source, max_length=LONGEST, **settings)
    return [
        [(s, [t for t in row if t != PAD]) for s, row in zip(scores, rows, strict=True)]
        for scores, rows in zip(result.scores.tolist(), result.tokens.tolist(), strict=True)
    ]


def assert_same(actual: Scored, expected: Scored) -> None:
    assert [tokens for _, tokens in actual] == [tokens for _, tokens in expected]
    assert [s for s, _ in actual] == pytest.approx([s for s, _ in expected], rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
def test_a_beam_with_room_for_every_beginning_is_exhaustive(length_penalty: float) -> None:
    network = build()
    together = found(network, SOURCE, beam_size=200, n_best=40, length_penalty=length_penalty)
    for row, source in enumerate(SOURCE):
        alone = source[source != PAD].unsqueeze(0)
        expected = every_target(network, alone, length_penalty)
        assert len(expected) == 121
        assert_same(together[row], expected[:40])


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_narrow_beam_equals_one_in_plain_python(size: int, length_penalty: float) -> None:
    ended = 0
    for seed in range(6):
        network = build(seed)
        together = found(network, SOURCE, beam_size=size, n_best=size, length_penalty=length_penalty)
        for row, source in enumerate(SOURCE):
            expected = plain_beam(network, source[source != PAD].unsqueeze(0), size, length_penalty)
            assert_same(together[row], expected)
            ended += expected[0][1][-1] == EOS
    assert ended > 3  # or the places of ended hypotheses wouldn't have been tried


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    network = build(seed)
    greedy = greedy_search(network, SOURCE, max_length=8)
    beam = beam_search(network, SOURCE, beam_size=1, max_length=8)
    assert torch.equal(beam.tokens[:, 0], greedy)


def test_a_beam_of_one_is_greedy_where_all_is_equally_probable() -> None:
    network = build(vocab=72)
    with torch.no_grad():
        network.head.weight.zero_()
    greedy = greedy_search(network, SOURCE, max_length=8)
    beam = beam_search(network, SOURCE, beam_size=1, max_length=8)
    assert torch.equal(beam.tokens[:, 0], greedy)


def test_greedy_takes_the_most_probable_token_until_the_end() -> None:
    lengths = set()
    for seed in range(8):
        network = build(seed)
        for source in SOURCE:
            alone, tokens = source[source != PAD].unsqueeze(0), [BOS]
            while len(tokens) < 9 and tokens[-1] != EOS:
                logits = network(alone, torch.tensor([tokens]))[0, -1]
                logits[[PAD, BOS]] = -torch.inf
                tokens.append(int(logits.argmax()))
            assert greedy_search(network, alone, max_length=8).tolist() == [tokens[1:]]
            lengths.add(len(tokens))
    assert len(lengths) > 2


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1, "norm_first": False, "rotary_base": None}])
def test_cached_equals_uncached(options: dict[str, Any]) -> None:
    for seed in range(4):
        network = build(seed, **options)
        kept, anew = (
            beam_search(network, SOURCE, beam_size=4, n_best=4, max_length=8, use_cache=use_cache)
            for use_cache in (True, False)
        )
        assert torch.equal(kept.tokens, anew.tokens)
        torch.testing.assert_close(kept.scores, anew.scores, rtol=1e-10, atol=0)
        greedy = [greedy_search(network, SOURCE, max_length=8, use_cache=use) for use in (True, False)]
        assert torch.equal(*greedy)


def test_padding_changes_nothing() -> None:
    """Each source alone, and in a batch that is padded further than need be."""
    network = build(3)
    wide = torch.cat([SOURCE, torch.full((3, 4), PAD)], dim=1)
    together = beam_search(network, wide, beam_size=3, n_best=3, max_length=8)
    greedy = greedy_search(network, wide, max_length=8)
    for row, source in enumerate(SOURCE):
        alone = source[source != PAD].unsqueeze(0)
        one = beam_search(network, alone, beam_size=3, n_best=3, max_length=8)
        length = one.tokens.shape[-1]
        assert torch.equal(together.tokens[row, :, :length], one.tokens[0])
        assert not together.tokens[row, :, length:].any()
        torch.testing.assert_close(together.scores[row], one.scores[0], rtol=1e-10, atol=0)
        short = greedy_search(network, alone, max_length=8)[0]
        assert torch.equal(greedy[row, : len(short)], short)
        assert not greedy[row, len(short) :].any()


def test_only_padding_follows_the_end() -> None:
    tokens = beam_search(build(3), SOURCE, beam_size=5, n_best=5, max_length=8).tokens
    has_ended = (tokens == EOS).cumsum(-1) - (tokens == EOS).long() > 0
    assert has_ended.any()
    assert not tokens[has_ended].any()
    assert not (tokens == BOS).any()
    assert (tokens[~has_ended] != PAD).all()


def test_where_there_are_fewer_hypotheses_than_asked_for() -> None:
    """One token can only be EOS or the vocabulary's single word; what else is returned scores −∞."""
    result = beam_search(build(vocab=4), SOURCE, beam_size=4, n_best=4, max_length=1)
    for tokens, scores in zip(result.tokens.squeeze(-1).tolist(), result.scores.tolist(), strict=True):
        assert sorted(tokens[:2]) == [EOS, 3]
        assert tokens[2:] == [PAD, PAD]
        assert scores[0] >= scores[1] > -torch.inf
        assert scores[2:] == [-torch.inf, -torch.inf]


def test_wrong_settings_are_named() -> None:
    network = build()
    with pytest.raises(ValueError, match=r"n_best is 3, expected 1 … 2, the beam size"):
        beam_search(network, SOURCE, beam_size=2, max_length=4, n_best=3)
    with pytest.raises(ValueError, match="max_length is 0, expected at least 1"):
        greedy_search(network, SOURCE, max_length=0)
