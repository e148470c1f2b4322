from typing import Any

import pytest
import torch

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.decoding import Decoding, device_of, left_padded
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.recurrent_lm import RecurrentLM
from lit_modules.networks.transformer_lm import TransformerLM

CPU = torch.device("cpu")


def network(context: int = 12) -> TransformerLM:
    torch.manual_seed(0)
    config = LanguageModelConfig(
        depth=2, width=8, num_heads=2, feed_forward_width=16, position="rotary", rotary_base=100.0
    )
    return TransformerLM(config, vocab_size=10, context_length=context).double().eval()


def test_texts_end_in_the_last_column() -> None:
    tokens, key_mask = left_padded([[5, 6, 7], [8], [1, 2]], CPU)
    assert tokens.tolist() == [[5, 6, 7], [0, 0, 8], [0, 1, 2]]
    assert key_mask is not None
    assert key_mask.tolist() == [[True] * 3, [False, False, True], [False, True, True]]
    assert left_padded([[5, 6], [7, 8]], CPU)[1] is None


@torch.no_grad()
def test_logits_are_those_of_each_text_alone_whatever_becomes_of_the_rows() -> None:
    model = network()
    for use_cache in (True, False):
        decoding = Decoding(model, max_new_tokens=5, use_cache=use_cache)
        steps: list[tuple[list[list[int]], list[int] | None]] = [
            ([[1, 2, 3], [4], [5, 6]], None),
            ([[1, 2, 3, 7], [4, 8], [5, 6, 9]], [0, 1, 2]),
            ([[4, 8, 1], [5, 6, 9, 0]], [1, 2]),
            ([[5, 6, 9, 0, 3]], [1]),
            ([[5, 6, 9, 0, 3, 2]], [0]),
            ([[3, 2]], None),
            ([[3, 2, 1]], [0]),
        ]
        for rows, kept in steps:
            got = decoding.next_logits(rows, kept)
            expected = torch.cat([model(torch.tensor([row]))[:, -1] for row in rows])
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_the_cache_holds_no_more_than_the_context_or_the_growth() -> None:
    model = network()
    sizes = []
    make = model.make_cache
    model.make_cache = lambda capacity: sizes.append(capacity) or make(capacity)  # type: ignore[method-assign,func-returns-value]
    Decoding(model, max_new_tokens=4).next_logits([[1, 2, 3]], None)
    Decoding(model, max_new_tokens=400).next_logits([[1, 2, 3]], None)
    assert sizes == [7, 12]


@pytest.mark.parametrize("kind", ["transformer", "laid out", "recurrent"])
@torch.no_grad()
def test_a_text_that_grows_between_calls_is_read_on(kind: str) -> None:
    """The second call reads what is new; every other text is read whole."""
    if kind == "recurrent":
        torch.manual_seed(0)
        model: Any = RecurrentLM(vocab_size=10, hidden_size=8).double().eval()
    else:
        model = network(40) if kind == "transformer" else DecodingLM(network(40))
    read: list[int] = []
    call = model.forward
    model.forward = lambda tokens, **more: read.append(tokens.shape[1]) or call(tokens, **more)  # type: ignore[func-returns-value]
    decoding = Decoding(model, max_new_tokens=20)
    texts = [[1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 7, 4, 5, 6, 8], [1, 2]]
    for text in texts:
        got = decoding.next_logits([text], None)
        torch.testing.assert_close(got, call(torch.tensor([text]))[:, -1], rtol=1e-9, atol=1e-12)
    assert read == [3, 3, 6, 7, 2]


@torch.no_grad()
def test_after_an_exception_the_cache_is_not_continued() -> None:
    """Ctrl-C may come when some of the layers have stored the new tokens and others have not."""
    model = network()
    decoding = Decoding(model, max_new_tokens=9)
    decoding.next_logits([[1, 2]], None)
    handle = model.trunk.layers[1].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        decoding.next_logits([[1, 2, 3]], None)
    handle.remove()
    got = decoding.next_logits([[1, 2, 3, 4]], None)
    torch.testing.assert_close(got, model(torch.tensor([[1, 2, 3, 4]]))[:, -1], rtol=1e-9, atol=1e-12)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_network_is_where_its_weights_are() -> None:
    assert device_of(network()) == CPU
    assert device_of(torch.nn.BatchNorm1d(3, affine=False)) == CPU
