"""Batched, cached reading held to reading each text alone, and to the library's own hidden states."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.hidden_states import AnswerPosition, ForcedAnswers, read_pairs
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.readers import build_network, read_pretrained

EXAMPLES = [
    ForcedAnswers(prompt=[3, 1, 4, 1, 5], wanted=[[2, 6]], unwanted=[[5, 3, 5]]),
    ForcedAnswers(prompt=[9], wanted=[[2], [7, 1, 8, 2]], unwanted=[[8, 1], [8], [2, 8]]),
    ForcedAnswers(prompt=[2, 7, 1, 8, 2, 8, 1]),  # to be left as it is
    ForcedAnswers(prompt=[6, 6], wanted=[[1, 1, 1]], unwanted=[[1, 1, 1]]),
]


def build() -> TransformerLM:
    torch.manual_seed(0)
    network = TransformerLM(
        LanguageModelConfig(
            depth=3,
            width=16,
            num_heads=4,
            feed_forward_width=32,
            num_kv_heads=2,
            position="rotary",
            tie_embeddings=False,
        ),
        vocab_size=11,
        context_length=16,
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


@torch.no_grad()
def alone(network: TransformerLM, text: list[int], layers: list[int]) -> Tensor:
    """(T, L, W)."""
    states: list[Tensor] = []
    network(torch.tensor([text]), hidden_states=states)
    return torch.stack([states[layer + 1][0] for layer in layers], dim=1)


@pytest.mark.parametrize("position", ["last", "mean"])
@pytest.mark.parametrize("layers", [[0, 1, 2], [2, 0]])
def test_a_batch_is_what_each_text_alone_gives(position: AnswerPosition, layers: list[int]) -> None:
    network = build()
    h, z = read_pairs(network, EXAMPLES, layers=layers, position=position)
    for row, example in enumerate(EXAMPLES):
        prompt = list(example.prompt)
        torch.testing.assert_close(h[row], alone(network, prompt, layers)[-1], rtol=1e-4, atol=1e-5)

        def side(answers: list[list[int]], prompt: list[int] = prompt) -> Tensor:
            read = [alone(network, [*prompt, *answer], layers)[len(prompt) :] for answer in answers]
            return torch.stack([s[-1] if position == "last" else s.mean(0) for s in read]).mean(0)

        expected = torch.zeros_like(h[row])
        if example.wanted:
            expected = side(example.wanted) - side(example.unwanted)  # type: ignore[arg-type]
        torch.testing.assert_close(z[row], expected, rtol=1e-4, atol=1e-5)
    assert not z[2].any()
    assert z[1].abs().max() > 0.1


def test_layers_are_the_librarys(tmp_path: Path, make_llama: Callable[..., PreTrainedModel]) -> None:
    theirs = make_llama()
    theirs.save_pretrained(tmp_path)
    ours = build_network(read_pretrained(tmp_path))
    h, _ = read_pairs(ours, [ForcedAnswers(prompt=[5, 17, 23])], layers=[0])
    with torch.no_grad():
        states = theirs(torch.tensor([[5, 17, 23]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(h[0, 0], states[1][0, -1], rtol=1e-4, atol=1e-5)


def test_half_precision_is_read_as_fp32() -> None:
    h, z = read_pairs(build().bfloat16(), EXAMPLES, layers=[1])
    assert h.dtype == z.dtype == torch.float32
    exact_h, exact_z = read_pairs(build(), EXAMPLES, layers=[1])
    torch.testing.assert_close(h, exact_h, rtol=0.1, atol=0.1)
    torch.testing.assert_close(z, exact_z, rtol=0.1, atol=0.2)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (ForcedAnswers(prompt=[]), "prompt 1 or an answer to it is empty"),
        (ForcedAnswers(prompt=[1], wanted=[[]], unwanted=[[1]]), "prompt 1 or an answer to it is empty"),
        (ForcedAnswers(prompt=[1], wanted=[[1]]), "prompt 1 has answers of only one kind"),
        (
            ForcedAnswers(prompt=[1] * 14, wanted=[[1]], unwanted=[[1] * 3]),
            "prompt 1 and its answer have 17 tokens, more than the context length 16",
        ),
    ],
)
def test_refuses_what_can_not_be_read(example: ForcedAnswers, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pairs(build(), [ForcedAnswers(prompt=[1]), example], layers=[0])


def test_refuses_a_layer_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"layer 3 is out of range, the model has 0 … 2"):
        read_pairs(build(), EXAMPLES, layers=[0, 3])
