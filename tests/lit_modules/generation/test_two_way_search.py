"""Oracles: every target there is, and both ways' log-probabilities of each, one token at a time."""

from itertools import product

import pytest
import torch
from torch import Tensor

from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.generation.beam_search import beam_search
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.generation.two_way_search import reverse_targets, two_way_search
from lit_modules.networks.encoder_decoder import EncoderDecoder

V, LONGEST = 6, 3
SOURCE = torch.tensor([[3, 4, 5, 3, EOS], [5, 5, EOS, PAD, PAD], [4, EOS, PAD, PAD, PAD]])

Ranked = list[tuple[float, tuple[int, ...]]]


def build(seed: int = 0) -> EncoderDecoder:
    network = EncoderDecoder(
        Seq2SeqConfig(
            depth=1, width=8, num_heads=2, feed_forward_width=12, position="learned", tie_embeddings=False
        ),
        source_vocab_size=6,
        target_vocab_size=V,
        source_length=9,
        target_length=LONGEST + 1,
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network.eval()


def score(network: EncoderDecoder, source: Tensor, words: tuple[int, ...], length_penalty: float) -> float:
    """Half of what words and end are worth forward, and half of what words and start are worth backward."""
    total = 0.0
    for target in ([BOS, *words, EOS], [EOS, *reversed(words), BOS]):
        for place in range(1, len(target)):
            logits = network(source, torch.tensor([target[:place]]))[0, -1]
            total += float(logits.log_softmax(-1)[target[place]].detach())
    return total / 2 / (len(words) + 1) ** length_penalty


def found(
    network: EncoderDecoder, source: Tensor, n_best: int, beam_size: int, penalty: float
) -> list[Ranked]:
    result = two_way_search(
        network, source, beam_size=beam_size, max_length=LONGEST, length_penalty=penalty, n_best=n_best
    )
    return [
        [
            (s, tuple(token for token in row if token > EOS))
            for s, row in zip(scores, rows, strict=True)
            if s > -torch.inf
        ]
        for scores, rows in zip(result.scores.tolist(), result.tokens.tolist(), strict=True)
    ]


def assert_same(actual: Ranked, expected: Ranked) -> None:
    assert [words for _, words in actual] == [words for _, words in expected]
    assert [s for s, _ in actual] == pytest.approx([s for s, _ in expected], rel=1e-9)


def test_targets_are_turned_round_within_their_padding() -> None:
    rows = torch.tensor([[BOS, 3, 4, 5, EOS], [BOS, 3, EOS, PAD, PAD], [BOS, EOS, PAD, PAD, PAD]])
    turned = [[EOS, 5, 4, 3, BOS], [EOS, 3, BOS, PAD, PAD], [EOS, BOS, PAD, PAD, PAD]]
    assert reverse_targets(rows).tolist() == turned
    assert torch.equal(reverse_targets(reverse_targets(rows)), rows)
    assert reverse_targets(rows.unsqueeze(0)).tolist() == [turned]
    assert reverse_targets(torch.tensor([[PAD, PAD]])).tolist() == [[PAD, PAD]]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_beams_with_room_for_every_beginning_are_exhaustive(penalty: float) -> None:
    network = build()
    every = [words for length in range(LONGEST) for words in product(range(3, V), repeat=length)]
    together = found(network, SOURCE, n_best=60, beam_size=60, penalty=penalty)
    for row, source in enumerate(SOURCE):
        alone = source[source != PAD].unsqueeze(0)
        expected = sorted(((score(network, alone, words, penalty), words) for words in every), reverse=True)
        assert len(expected) == 13  # each of them once, whichever beam has found it
        assert_same(together[row], expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4])
def test_narrow_beams_choose_among_what_either_found(size: int) -> None:
    only_backward = 0
    for seed in range(6):
        network = build(seed)
        together = found(network, SOURCE, n_best=size, beam_size=size, penalty=0.5)
        for row, source in enumerate(SOURCE):
            alone = source[source != PAD].unsqueeze(0)
            candidates: list[set[tuple[int, ...]]] = []
            for backward in (False, True):
                beam = beam_search(
                    network,
                    alone,
                    beam_size=size,
                    max_length=LONGEST,
                    length_penalty=0.5,
                    n_best=size,
                    backward=backward,
                )
                words = [[token for token in tokens if token > EOS] for tokens in beam.tokens[0].tolist()]
                ended = [w for w in words if len(w) < LONGEST]
                candidates.append({tuple(w[::-1] if backward else w) for w in ended})
            ranked = [(score(network, alone, w, 0.5), w) for w in set.union(*candidates)]
            if ranked:
                assert_same(together[row], sorted(ranked, reverse=True)[:size])
                only_backward += together[row][0][1] not in candidates[0]
    assert only_backward  # or the beam from the end wouldn't have been of any use


def test_a_backward_beam_finds_what_the_reversed_network_would() -> None:
    """Exhaustively: the best by the log-probabilities of the tokens behind."""
    network = build(2)
    beam = beam_search(network, SOURCE, beam_size=60, max_length=LONGEST, length_penalty=0.0, backward=True)
    for row, source in enumerate(SOURCE):
        alone = source[source != PAD].unsqueeze(0)
        best = -torch.inf
        for length in range(LONGEST + 1):
            for words in product(range(3, V), repeat=length):
                target = [EOS, *words, BOS][: LONGEST + 1]
                log_probs = network(alone, torch.tensor([target[:-1]]))[0].log_softmax(-1).detach()
                best = max(best, sum(float(log_probs[t, token]) for t, token in enumerate(target[1:])))
        assert float(beam.scores[row, 0]) == pytest.approx(best, rel=1e-9)


def test_answers_end_and_only_padding_follows() -> None:
    tokens = two_way_search(build(1), SOURCE, beam_size=4, max_length=LONGEST, n_best=4).tokens
    assert ((tokens == EOS).sum(-1) == 1).all()
    behind = (tokens == EOS).cumsum(-1) - (tokens == EOS).long() > 0
    assert behind.any()
    assert not tokens[behind].any()
    assert not (tokens == BOS).any()


def test_what_was_cut_is_answered_only_where_nothing_had_ended() -> None:
    network = build()
    with torch.no_grad():  # one of two words is always more probable than any end
        network.head.weight[4] = -network.head.weight[3]
        network.head.weight[[BOS, EOS]] = 0.0
    cut = two_way_search(network, SOURCE, beam_size=1, max_length=LONGEST)
    for row, source in enumerate(SOURCE):
        words = tuple(token for token in cut.tokens[row, 0].tolist() if token != PAD)
        assert EOS not in words
        assert len(words) == LONGEST
        total = score(network, source[source != PAD].unsqueeze(0), words, 0.0)
        assert float(cut.scores[row, 0]) == pytest.approx(total / LONGEST, rel=1e-9)


def test_where_there_are_fewer_than_asked_for() -> None:
    """Within one token nothing but the end is complete; more are asked for than two beams can have."""
    result = two_way_search(build(), SOURCE, beam_size=13, max_length=1, n_best=13)
    assert ((result.scores > -torch.inf).sum(-1) == 1).all()
    assert (result.tokens[:, 0, 0] == EOS).all()
    assert not result.tokens[result.scores == -torch.inf].any()


def test_a_wrong_number_of_answers_is_named() -> None:
    with pytest.raises(ValueError, match=r"n_best is 3, expected 1 … 2, the beam size"):
        two_way_search(build(), SOURCE, beam_size=2, max_length=3, n_best=3)
