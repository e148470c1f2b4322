"""Read the hidden states of prompts and of forced answers at chosen layers of a language model.

Shape letters: B prompts, L chosen layers, T tokens of the longest, W width of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.generation.decoding import device_of, left_padded
from lit_modules.generation.steered import check_layer

AnswerPosition = Literal["last", "mean"]


@dataclass(frozen=True, kw_only=True)
class ForcedAnswers:
    """A prompt and the answers that the model is forced to give."""

    prompt: Sequence[int]  # token ids, at least one
    wanted: Sequence[Sequence[int]] = ()
    """Token ids of answers with the wanted behaviour, at least one token each; empty for a neutral prompt."""
    unwanted: Sequence[Sequence[int]] = ()  # token ids of answers without the wanted behaviour


@torch.inference_mode()
def read_pairs(
    network: Any,
    examples: Sequence[ForcedAnswers],
    *,
    layers: Sequence[int],
    position: AnswerPosition = "last",
) -> tuple[Tensor, Tensor]:
    """Compute the hidden state and the prompt-to-steer vector of each prompt.

    A prompt is read once. All its answers continue from the same keys and values.

    Args:
        network: A `TransformerLM` in evaluation mode.
        examples: B prompts with any number of answers.
        layers: Indices of the layers; the hidden state of a layer is its output.
        position: Use the state of the `last` token of an answer, or the `mean` over its tokens.

    Returns:
        h, the states of the last prompt tokens, and z, the mean state of the wanted answers minus that of the
        unwanted answers; z is zero for prompts without answers. Both are at least fp32, (B, L, W).

    Raises:
        ValueError: The layer does not exist, a prompt or answer is empty, a prompt has answers of only one
            kind, or a text exceeds the context length.
    """
    for layer in layers:
        check_layer(network, layer)
    _check(examples, network.context_length)
    device = device_of(network)
    tokens, key_mask = left_padded([list(e.prompt) for e in examples], device)
    answers = [answer for e in examples for answer in (*e.wanted, *e.unwanted)]
    longest = max((len(answer) for answer in answers), default=0)
    cache = network.make_cache(tokens.shape[1] + longest)
    h = _read(network, tokens, key_mask, cache, layers, first=-1)[:, 0]  # (B, L, W)
    z = torch.zeros_like(h)
    if not answers:
        return h, z
    owners = [row for row, e in enumerate(examples) for _ in (*e.wanted, *e.unwanted)]
    for layer_cache in cache:
        layer_cache.reorder(torch.tensor(owners, device=device))
    lengths = torch.tensor([len(answer) for answer in answers], device=device)
    padded = [[*answer, *[0] * (longest - len(answer))] for answer in answers]
    real = torch.arange(longest, device=device) < lengths.unsqueeze(-1)  # (answers, T)
    states = _read(network, torch.tensor(padded, device=device), real, cache, layers)
    if position == "last":
        states = states[torch.arange(len(answers), device=device), lengths - 1]  # (answers, L, W)
    else:
        states = (states * real[:, :, None, None]).sum(1) / lengths[:, None, None]
    signs = [
        sign / len(some) for e in examples for sign, some in ((1, e.wanted), (-1, e.unwanted)) for _ in some
    ]
    weighted = states * torch.tensor(signs, device=device, dtype=states.dtype)[:, None, None]
    return h, z.index_add(0, torch.tensor(owners, device=device), weighted)


def _read(
    network: Any,
    tokens: Tensor,
    key_mask: Tensor | None,
    cache: list[Any],
    layers: Sequence[int],
    *,
    first: int = 0,
) -> Tensor:
    """Read tokens (B, T) and return the hidden states (B, T, L, W), from the `first` token on."""
    states: list[Tensor] = []
    network(tokens, key_mask=key_mask, cache=cache, hidden_states=states, last_only=True)
    # states[0] is the embedding, states[i + 1] the output of layer i.
    return torch.stack([widen(states[layer + 1][:, first:]) for layer in layers], dim=2)


def _check(examples: Sequence[ForcedAnswers], context_length: int) -> None:
    for number, example in enumerate(examples):
        answers = [*example.wanted, *example.unwanted]
        if not example.prompt or not all(answers):
            raise ValueError(f"prompt {number} or an answer to it is empty")
        if bool(example.wanted) != bool(example.unwanted):
            raise ValueError(
                f"prompt {number} has answers of only one kind, expected wanted and unwanted ones"
            )
        length = len(example.prompt) + max(map(len, answers), default=0)
        if length > context_length:
            raise ValueError(
                f"prompt {number} and its answer have {length} tokens, more than the context length "
                f"{context_length} of the model"
            )
