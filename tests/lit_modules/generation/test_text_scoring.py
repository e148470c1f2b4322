from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation import text_scoring
from lit_modules.generation.text_scoring import token_losses
from lit_modules.networks.recurrent_lm import RecurrentLM
from lit_modules.networks.transformer_lm import TransformerLM

V = 13


def transformer(context: int) -> TransformerLM:
    torch.manual_seed(0)
    config = LanguageModelConfig(depth=2, width=8, num_heads=2, feed_forward_width=16, tie_embeddings=False)
    network = TransformerLM(config, vocab_size=V, context_length=context)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return network.double().eval()


def text(length: int) -> Tensor:
    return torch.randint(V, (length,), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_a_loop(network: Any, tokens: Tensor, context: int, stride: int) -> list[float]:
    """Token by token: how far its window reaches, and its loss there alone."""
    losses = []
    for target in range(1, len(tokens)):
        if target <= context:
            end = min(context, len(tokens) - 1)
        else:
            end = min(context + -(-(target - context) // stride) * stride, len(tokens) - 1)
        window = tokens[max(0, end - context) : end]
        logits = network(window.unsqueeze(0))[0, target - 1 - max(0, end - context)]
        losses.append(-float(logits.log_softmax(-1)[tokens[target]]))
    return losses


@pytest.mark.parametrize("length", [2, 3, 6, 7, 8, 9, 13, 30])
@pytest.mark.parametrize(("context", "stride"), [(6, 1), (6, 2), (6, 4), (6, 6), (1, 1), (50, 7)])
@pytest.mark.parametrize("windows", [1, 3])
def test_every_token_is_scored_once_with_the_context_it_is_due(
    length: int, context: int, stride: int, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_scoring, "_MOST_WINDOWS", windows)
    network, tokens = transformer(context), text(length)
    parts = list(token_losses(network, tokens, stride=stride))
    expected = by_a_loop(network, tokens, context, stride)
    assert sum(len(part) for part in parts) == length - 1
    torch.testing.assert_close(torch.cat(parts), torch.tensor(expected, dtype=torch.float64))


def test_each_prediction_sees_at_least_the_context_less_the_stride() -> None:
    """A network whose logits tell how many tokens it has seen: the loss is that number."""

    class Counting(torch.nn.Module):
        context_length, vocab_size = 10, 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, tokens: Tensor) -> Tensor:
            seen = torch.arange(1.0, tokens.shape[1] + 1).expand(tokens.shape)
            # softmax over two tokens with p(0) = e^−seen
            p = torch.exp(-seen.double())
            return torch.stack([p.log(), torch.log1p(-p)], dim=-1)

    losses = torch.cat(list(token_losses(Counting(), torch.zeros(101, dtype=torch.long), stride=4)))
    seen = losses.round().int().tolist()
    assert seen[:10] == list(range(1, 11))
    assert seen[10:14] == [7, 8, 9, 10]
    assert min(seen[10:]) == 7
    assert len(seen) == 100


def test_a_batch_has_no_more_windows_than_their_logits_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    network, sizes = transformer(6), []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    monkeypatch.setattr(text_scoring, "_MOST_LOGITS", 2 * 6 * V)
    expected = torch.cat(list(token_losses(network, text(31), stride=6)))
    assert sizes == [(2, 6), (2, 6), (1, 6)]
    monkeypatch.setattr(text_scoring, "_MOST_LOGITS", 1)
    torch.testing.assert_close(torch.cat(list(token_losses(network, text(31), stride=6))), expected)


def test_a_text_without_a_prediction_gives_none() -> None:
    assert list(token_losses(transformer(4), text(1), stride=2)) == []
    assert list(token_losses(transformer(4), text(0), stride=2)) == []


@pytest.mark.parametrize("length", [2, 5, 1024, 1025, 1026, 3000])
def test_a_recurrent_network_reads_the_text_once(length: int) -> None:
    torch.manual_seed(0)
    network = RecurrentLM(vocab_size=V, hidden_size=6, cell="lstm").double().eval()
    tokens = text(length)
    got = torch.cat(list(token_losses(network, tokens, stride=1)))
    with torch.no_grad():
        expected = F.cross_entropy(network(tokens[None, :-1])[0], tokens[1:], reduction="none")
    torch.testing.assert_close(got, expected)


def test_half_precision_is_scored_in_fp32() -> None:
    network, tokens = transformer(6).bfloat16(), text(20)
    losses = torch.cat(list(token_losses(network, tokens, stride=3)))
    assert losses.dtype == torch.float32
    assert len(losses.unique()) == 19


@pytest.mark.parametrize("stride", [0, 7, -1])
def test_a_stride_beyond_the_context_would_leave_tokens_out(stride: int) -> None:
    with pytest.raises(ValueError, match=rf"stride: {stride}, allowed is 1 … 6"):
        list(token_losses(transformer(6), text(20), stride=stride))
