"""Steering held to a loop over the layers that adds the vectors by hand, one row at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.decoding import left_padded
from lit_modules.generation.generate import generate
from lit_modules.generation.steered import (
    RowSteering,
    SteeredPositions,
    SteeringVectors,
    each_row_steered,
    steered,
)
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM

V, CONTEXT, WIDTH, DEPTH = 31, 40, 16, 3
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7]]
KINDS: dict[str, dict[str, Any]] = {
    "rotary": {"position": "rotary", "norm": "rms_norm", "num_kv_heads": 2},
    "learned": {"position": "learned"},
}
POSITIONS: tuple[SteeredPositions, ...] = ("prompt", "generated", "both")


def build(kind: str = "rotary", context: int = CONTEXT) -> TransformerLM:
    options = dict(KINDS[kind])
    torch.manual_seed(0)
    network = TransformerLM(
        LanguageModelConfig(
            depth=DEPTH, tie_embeddings=False, width=WIDTH, num_heads=4, feed_forward_width=32, **options
        ),
        vocab_size=V,
        context_length=context,
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.7)
    return network.eval()


def vectors(rows: int = len(PROMPTS)) -> Tensor:
    return 3 * torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def by_hand(
    network: TransformerLM, text: list[int], prompt_length: int, shift: Tensor, layer: int, positions: str
) -> Tensor:
    """Logits (T, V) of one steered text."""
    places = torch.arange(len(text))
    x = network.embedding(torch.tensor([text]))
    if network.positions is not None:
        x = x + network.positions(places)
    rotation = None if network.trunk.rotary is None else network.trunk.rotary(places, dtype=x.dtype)
    wanted = {
        "prompt": list(range(prompt_length)),
        "generated": list(range(prompt_length - 1, len(text))),
        "both": list(range(len(text))),
    }[positions]
    for number, module in enumerate(network.trunk.layers):
        x = module(x, rotation=rotation)
        if number == layer:
            for place in wanted:
                x[0, place] += shift
    return network.head(network.trunk.final_norm(x))[0]


def continue_by_hand(network: TransformerLM, prompt: list[int], count: int, **where: Any) -> list[int]:
    text = list(prompt)
    while len(text) < len(prompt) + count:
        text.append(int(by_hand(network, text, len(prompt), **where)[-1].argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layer", range(DEPTH))
@torch.no_grad()
def test_a_padded_batch_is_steered_row_by_row(
    kind: str, positions: SteeredPositions, side: str, layer: int
) -> None:
    network, shifts = build(kind), vectors()
    texts = [[*prompt, 7, 8, 2][: len(prompt) + 1 + row] for row, prompt in enumerate(PROMPTS)]
    longest = max(map(len, texts))
    pad = [[0] * (longest - len(text)) for text in texts]
    rows = [[*p, *t] if side == "left" else [*t, *p] for p, t in zip(pad, texts, strict=True)]
    real = [[bool(x) for x in ([0] * len(p) + [1] * len(t))] for p, t in zip(pad, texts, strict=True)]
    key_mask = torch.tensor(real if side == "left" else [row[::-1] for row in real])
    with steered(
        network,
        SteeringVectors(layer=layer, vectors=shifts, factor=0.7),
        positions=positions,
        prompt_lengths=[len(prompt) for prompt in PROMPTS],
    ):
        logits = network(torch.tensor(rows), key_mask=key_mask)
    for row, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True)):
        expected = by_hand(network, text, len(prompt), 0.7 * shifts[row], layer, positions)
        torch.testing.assert_close(logits[row][key_mask[row]], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_rows_are_continued_as_each_would_be_alone(
    kind: str, positions: SteeredPositions, use_cache: bool
) -> None:
    """Some rows end earlier than others: each keeps its own vector."""
    network, shifts, ends = build(kind), vectors(), [12, 5, 20]
    settings = SamplingConfig(temperature=0, max_new_tokens=20)
    counts = [0, 0, 0]

    def count(row: int, token: int) -> bool:
        counts[row] += 1
        return counts[row] == ends[row]

    with steered(network, SteeringVectors(layer=1, vectors=shifts, factor=1.5), positions=positions) as rows:
        made = generate(network, PROMPTS, settings, use_cache=use_cache, on_read=rows.follow, on_token=count)
    assert made == [
        continue_by_hand(network, prompt, end, shift=1.5 * shift, layer=1, positions=positions)
        for prompt, end, shift in zip(PROMPTS, ends, shifts, strict=True)
    ]
    assert made != [row[:end] for row, end in zip(generate(network, PROMPTS, settings), ends, strict=True)]


def own_steering() -> list[RowSteering]:
    """A layer, a vector and a factor for each prompt; one row is not steered."""
    rows = zip((0, 1, 1), vectors().double(), (0.5, 0.0, -1.3), strict=True)
    return [RowSteering(layer=layer, vector=vector, factor=factor) for layer, vector, factor in rows]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_rows_with_their_own_layers_vectors_and_factors_are_as_each_alone(kind: str) -> None:
    network, steering = build(kind).double(), own_steering()
    tokens, key_mask = left_padded(PROMPTS, torch.device("cpu"))
    with each_row_steered(network, steering):
        together = network(tokens, key_mask=key_mask)
    for row, (prompt, own) in enumerate(zip(PROMPTS, steering, strict=True)):
        with each_row_steered(network, [own]):
            alone = network(torch.tensor([prompt]))
        logits = together[row, -len(prompt) :]
        torch.testing.assert_close(logits, alone[0], rtol=1e-9, atol=1e-9)
        shift = own.factor * own.vector
        expected = by_hand(network, prompt, len(prompt), shift, own.layer, "both")
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", POSITIONS)
def test_own_steering_stays_with_its_row_when_others_end(positions: SteeredPositions) -> None:
    network, steering, ends = build().double(), own_steering(), [12, 5, 20]
    settings = SamplingConfig(temperature=0, max_new_tokens=20)
    counts = [0, 0, 0]

    def count(row: int, token: int) -> bool:
        counts[row] += 1
        return counts[row] == ends[row]

    with each_row_steered(network, steering, positions=positions) as follow:
        made = generate(network, PROMPTS, settings, on_read=follow, on_token=count)
    assert made == [
        continue_by_hand(
            network, prompt, end, shift=own.factor * own.vector, layer=own.layer, positions=positions
        )
        for prompt, end, own in zip(PROMPTS, ends, steering, strict=True)
    ]


@torch.no_grad()
def test_a_row_with_factor_zero_is_not_touched_by_its_vector() -> None:
    network = build()
    shifts = torch.stack([torch.full((WIDTH,), torch.inf), *vectors(1)])
    factors = torch.tensor([0.0, 2.0])
    steering = SteeringVectors(layer=1, vectors=shifts, factor=factors)
    assert steering.select([1, 1]).factor.tolist() == [2.0, 2.0]  # type: ignore[union-attr]
    tokens = torch.tensor([PROMPTS[0]] * 2)
    plain = network(tokens)
    with steered(network, steering):
        logits = network(tokens)
    torch.testing.assert_close(logits[0], plain[0], rtol=0, atol=0)
    assert not torch.allclose(logits[1], plain[1])


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_cache_makes_no_difference_beyond_the_context(positions: SteeredPositions) -> None:
    network, settings = build(context=12), SamplingConfig(temperature=0, max_new_tokens=30)
    made = []
    for use_cache in (True, False):
        with steered(
            network, SteeringVectors(layer=0, vectors=vectors(), factor=1.0), positions=positions
        ) as rows:
            made.append(generate(network, PROMPTS, settings, use_cache=use_cache, on_read=rows.follow))
    assert made[0] == made[1]


@torch.no_grad()
def test_alpha_zero_changes_no_bit_and_hooks_nothing() -> None:
    network, tokens = build(), torch.tensor([PROMPTS[0]])
    before = network(tokens)
    with steered(network, SteeringVectors(layer=1, vectors=torch.full((1, WIDTH), torch.inf), factor=0.0)):
        assert not any(module._forward_hooks for module in network.modules())
        torch.testing.assert_close(network(tokens), before, rtol=0, atol=0)
    with steered(network, SteeringVectors(layer=1, vectors=vectors(1), factor=1.0)):
        assert not torch.allclose(network(tokens), before)


@torch.no_grad()
def test_nothing_is_left_behind_whatever_is_raised() -> None:
    network, tokens = build(), torch.tensor([PROMPTS[0]])
    before = network(tokens)

    def fail() -> None:
        with steered(network, SteeringVectors(layer=1, vectors=vectors(1), factor=1.0)):
            network(tokens)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not any(module._forward_hooks for module in network.modules())
    torch.testing.assert_close(network(tokens), before, rtol=0, atol=0)


@torch.no_grad()
def test_two_layers_are_steered_at_once() -> None:
    network, tokens = build(), torch.tensor([PROMPTS[0]])
    first, second = vectors(2).split(1)
    with (
        steered(network, SteeringVectors(layer=0, vectors=first, factor=1.0)),
        steered(network, SteeringVectors(layer=0, vectors=second, factor=1.0)),
    ):
        twice = network(tokens)
    with steered(network, SteeringVectors(layer=0, vectors=first + second, factor=1.0)):
        torch.testing.assert_close(network(tokens), twice, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_half_precision_stays_half_precision() -> None:
    network = build().bfloat16()
    with steered(network, SteeringVectors(layer=1, vectors=vectors(1), factor=1.0)):
        assert network(torch.tensor([PROMPTS[0]])).dtype == torch.bfloat16


def test_refuses_what_does_not_fit() -> None:
    network = build()
    for layer in (-1, DEPTH):
        with (
            pytest.raises(ValueError, match=rf"layer {layer} is out of range, the model has 0 … 2"),
            steered(network, SteeringVectors(layer=layer, vectors=vectors(1), factor=1.0)),
        ):
            pass
    with (
        pytest.raises(ValueError, match=r"vectors have shape \(1, 8\), expected \(rows, 16\)"),
        steered(network, SteeringVectors(layer=0, vectors=vectors(1)[:, :8], factor=1.0)),
    ):
        pass
    wrong = SteeringVectors(layer=0, vectors=vectors(2), factor=torch.ones(3))
    with (
        pytest.raises(ValueError, match=r"factors have shape \(3,\), expected one factor for each of 2"),
        steered(network, wrong),
    ):
        pass
    with (
        pytest.raises(ValueError, match="positions is 'all', expected one of 'prompt', 'generated', 'both'"),
        steered(network, SteeringVectors(layer=0, vectors=vectors(1), factor=1.0), positions="all"),  # type: ignore[arg-type]
    ):
        pass
    with (
        pytest.raises(ValueError, match="a DecodingLM has no layers"),
        steered(DecodingLM(network), SteeringVectors(layer=0, vectors=vectors(1), factor=1.0)),
    ):
        pass
    with (
        steered(network, SteeringVectors(layer=0, vectors=vectors(2), factor=1.0)),
        pytest.raises(ValueError) as error,
    ):
        network(torch.tensor([PROMPTS[0]]))
    assert "the batch has 1 rows, but there are 2 vectors" in str(error.value)
    with (
        steered(network, SteeringVectors(layer=0, vectors=vectors(1), factor=1.0), positions="prompt"),
        pytest.raises(ValueError, match="steering prompt tokens needs prompt_lengths"),
    ):
        network(torch.tensor([PROMPTS[0]]))
