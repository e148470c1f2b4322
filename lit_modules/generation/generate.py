"""Text generation token by token, for several prompts at once and independently."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lit_modules.configs.generation import SamplingConfig
from lit_modules.functional.sampling import (
    greedy,
    min_p,
    repetition_penalty,
    sample_token,
    temperature,
    top_k,
    top_p,
)
from lit_modules.generation.decoding import Decoding, device_of

OnToken = Callable[[int, int], bool | None]
OnRead = Callable[[list[int], list[int]], None]


@torch.inference_mode()
def generate(
    network: Any,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    use_cache: bool = True,
    decoding: Decoding | None = None,
    seeds: Sequence[int] | None = None,
    vocab_size: int | None = None,
    on_token: OnToken | None = None,
    on_end: Callable[[int], None] | None = None,
    on_read: OnRead | None = None,
) -> list[list[int]]:
    """Continue each prompt until it stops or has `settings.max_new_tokens` new tokens.

    Prompts are independent: up to rounding, each gets the continuation that it would get alone. With and
    without the cache the logits are the same up to rounding. The tokens are then the same too, unless two
    tokens are almost equally probable, which happens in half precision.

    A model sees at most its context. It sees only the end of a longer prompt. When a text outgrows the
    context, its last half is read again from position 0 and grows to a full context, and so on:

        context 8        a b c d e f g h    →    f g h i    →    f g h i j k l m    →    k l m n  …
                                              (i is the first token beyond the context)

    So the visible tokens are the same with and without the cache, positions stay within those of training,
    and a token costs on average about two tokens of computation instead of a whole context.

    Args:
        network: A `TransformerLM`, a `RecurrentLM` or a module with the same call. It is in evaluation mode
            during the call.
        prompts: Token ids, at least one per prompt.
        settings: How to choose tokens and when to stop.
        use_cache: Keep the results of earlier tokens.
        decoding: Decoding of this network with a cache of its own, which may hold the beginning of a single
            prompt from an earlier call; a new one by default.
        seeds: One seed per prompt; by default `settings.seed` for all, so that equal prompts get equal
            samples.
        vocab_size: Choose only from the ids 0 … `vocab_size` − 1; some networks have more
            rows than their tokenizer has tokens.
        on_token: Called with the row and its new token, except a stop id; if it returns True, the row ends.
        on_end: Called with each row when it ends.
        on_read: Called before each call of the network, with the active rows and the number of visible prompt
            tokens of each.

    Returns:
        The new tokens of each prompt, without the stop id.

    Raises:
        ValueError: A prompt is empty or has a token outside the vocabulary, the number of seeds is wrong, or
            the logits are not finite numbers.
    """
    vocab_size = network.vocab_size if vocab_size is None else vocab_size
    _check_prompts(prompts, vocab_size)
    seeds = [settings.seed] * len(prompts) if seeds is None else seeds
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need one seed each, got {len(seeds)}")
    chances = [random.Random(seed) for seed in seeds]
    state = decoding or Decoding(network, max_new_tokens=settings.max_new_tokens, use_cache=use_cache)
    context = state.context_length
    device = device_of(network)
    seen = _seen(prompts, vocab_size, device) if settings.repetition_penalty != 1 else None

    new: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))  # rows that have not ended
    windows = [list(prompt) if context is None else list(prompt[-context:]) for prompt in prompts]
    kept: list[int] | None = None
    with _evaluating(network):
        while active:
            if on_read is not None:
                prompt_lengths = [len(w) - len(new[row]) for row, w in zip(active, windows, strict=True)]
                on_read(active, [max(0, length) for length in prompt_lengths])
            logits = state.next_logits(windows, kept)[:, :vocab_size]  # (active, V)
            uniform = torch.tensor([chances[row].random() for row in active], dtype=torch.float64)
            tokens = choose(logits, settings, uniform, None if seen is None else seen[active])
            kept = []
            for index, (row, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
                ended = token in settings.stop_ids
                if not ended:
                    new[row].append(token)
                    windows[index].append(token)
                    if seen is not None:
                        seen[row, token] = True
                    ended = bool(on_token is not None and on_token(row, token))
                if not (ended or len(new[row]) == settings.max_new_tokens):
                    kept.append(index)
                elif on_end is not None:
                    on_end(row)
            active, windows = [active[i] for i in kept], [windows[i] for i in kept]
            if context is not None and any(len(window) > context for window in windows):
                windows = [w if len(w) <= context else w[-max(1, context // 2) :] for w in windows]
                kept = None
    return new


def choose(logits: Tensor, settings: SamplingConfig, uniform: Tensor, seen: Tensor | None = None) -> Tensor:
    """Choose the next token of each row.

    Args:
        logits: (B, V).
        settings: How to choose.
        uniform: Random numbers in [0, 1) for the sampling, (B,).
        seen: Tokens that each row contains, boolean (B, V); needed for a repetition penalty.

    Returns:
        int64 (B,).
    """
    if seen is not None:
        logits = repetition_penalty(logits, seen, settings.repetition_penalty)
    if settings.temperature == 0:
        return greedy(logits)
    logits = temperature(logits, settings.temperature)
    if settings.top_k is not None:
        logits = top_k(logits, settings.top_k)
    logits = min_p(top_p(logits, settings.top_p), settings.min_p)
    return sample_token(logits, uniform)


def _check_prompts(prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} is empty; it needs at least one token")
        wrong = [token for token in prompt if not 0 <= token < vocab_size]
        if wrong:
            raise ValueError(f"prompt {number} has token {wrong[0]}, the vocabulary has 0 … {vocab_size - 1}")


def _seen(prompts: Sequence[Sequence[int]], vocab_size: int, device: torch.device) -> Tensor:
    """Tell which tokens each prompt contains, boolean (B, V)."""
    seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool, device=device)
    for row, prompt in enumerate(prompts):
        seen[row, list(prompt)] = True
    return seen


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then restore the mode of each submodule, because modes may differ."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
