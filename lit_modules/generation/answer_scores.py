"""What a language model makes of answers to prompts, steered or not, and what it answers itself.

Shape letters: B prompts, A answers to all of them, T tokens of the longest answer, V vocabulary, W width.
"""

import copy
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.functional.sampling import greedy
from lit_modules.generation.decoding import device_of, left_padded
from lit_modules.generation.steered import steered
from lit_modules.layers.kv_cache import KVCache


@dataclass(frozen=True, kw_only=True)
class Steer:
    """What is added where.

    Attributes:
        layer: Of the network.
        vectors: (B, W), one for each prompt.
        alpha: Their factor.
    """

    layer: int
    vectors: Tensor
    alpha: float = 1.0


class AnswerScorer:
    """Prompts that have been read once, whatever is then asked about them.

    Steering begins at a prompt's last token, from which the answer's first is chosen (`generated` of
    `steered`): all before it is the same however it is steered.

    Args:
        network: A `TransformerLM` in evaluation mode.
        prompts: Token ids, at least one each.
        longest_answer: Tokens that an answer may have at most.

    Raises:
        ValueError: A prompt is empty, or too long for the network with an answer behind it.
    """

    def __init__(self, network: Any, prompts: Sequence[Sequence[int]], *, longest_answer: int = 1) -> None:
        if not all(prompts):
            raise ValueError("a prompt is empty")
        longest = max(map(len, prompts)) - 1 + longest_answer
        if longest > network.context_length:
            raise ValueError(
                f"a prompt and its answer have {longest} tokens, and the model looks back on "
                f"{network.context_length}"
            )
        self.network = network
        self.last = [prompt[-1] for prompt in prompts]
        self.lengths = [len(prompt) for prompt in prompts]
        self.device = device_of(network)
        self.longest_answer = longest_answer
        self._cache: list[KVCache] = network.make_cache(longest)
        before = [list(prompt[:-1]) for prompt in prompts]
        if any(before):
            # A row without a token before its last is read as padding alone, of which nothing is kept.
            tokens, key_mask = left_padded(before, self.device)
            with torch.inference_mode():
                network(tokens, key_mask=key_mask, cache=self._cache, last_only=True)

    @torch.inference_mode()
    def log_probabilities(
        self, answers: Sequence[Sequence[Sequence[int]]], steer: Steer | None = None
    ) -> list[list[float]]:
        """Mean log-probability of a token of each answer, in nats.

        Args:
            answers: Any number to each prompt, of at least one token each.
            steer: Nothing by default.

        Returns:
            A number for each answer, prompt by prompt.

        Raises:
            ValueError: An answer is empty, or longer than was said.
        """
        owners = [row for row, own in enumerate(answers) for _ in own]
        flat = [list(answer) for own in answers for answer in own]
        if not flat:
            return [[] for _ in answers]
        if not all(flat):
            raise ValueError("an answer is empty")
        texts = [[self.last[owner], *answer[:-1]] for owner, answer in zip(owners, flat, strict=True)]
        tokens, real = self._right_padded(texts)  # (A, T)
        logits = self._read(tokens, real, owners, steer)  # (A, T, V)
        targets, _ = self._right_padded(flat)
        chosen = widen(logits).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (A, T)
        means = ((chosen * real).sum(1) / real.sum(1)).tolist()
        found: list[list[float]] = [[] for _ in answers]
        for owner, mean in zip(owners, means, strict=True):
            found[owner].append(mean)
        return found

    @torch.inference_mode()
    def next_log_probabilities(self, steer: Steer | None = None) -> Tensor:
        """Log-probabilities of the answers' first token, at least fp32 (B, V)."""
        rows = list(range(len(self.last)))
        tokens, real = self._right_padded([[token] for token in self.last])
        return widen(self._read(tokens, real, rows, steer)[:, 0]).log_softmax(-1)

    @torch.inference_mode()
    def write(
        self,
        max_new_tokens: int,
        *,
        stop_ids: Collection[int] = (),
        vocab_size: int | None = None,
        steer: Steer | None = None,
    ) -> list[list[int]]:
        """The most probable token after the other, for each prompt, until it stops.

        The same as greedy `generate` within the network's context, without
        reading the prompts anew. All rows are written to the end of the longest, so that a prompt's row is
        computed beside the same others whatever they are steered by.

        Args:
            max_new_tokens: At most as many as `longest_answer`.
            stop_ids: Tokens that end an answer, and aren't part of it.
            vocab_size: Choose among the first so many tokens alone.
            steer: Nothing by default.

        Raises:
            ValueError: More tokens than `longest_answer`.
        """
        if max_new_tokens > self.longest_answer:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}, more than longest_answer, {self.longest_answer}"
            )
        written: list[list[int]] = [[] for _ in self.last]
        going = set(range(len(written)))
        cache, tokens = copy.deepcopy(self._cache), torch.tensor(self.last, device=self.device)
        with self._steered(steer, list(range(len(written)))):
            for _ in range(max_new_tokens):
                logits = self.network(tokens.unsqueeze(-1), cache=cache, last_only=True)[:, -1, :vocab_size]
                tokens = greedy(logits)  # (B,)
                chosen = tokens.tolist()
                going = {row for row in going if chosen[row] not in stop_ids}
                for row in going:
                    written[row].append(chosen[row])
                if not going:
                    break
        return written

    def _read(self, tokens: Tensor, real: Tensor, owners: list[int], steer: Steer | None) -> Tensor:
        # Deep, since reordering to as many rows as before would happen in the storage of this one.
        cache = copy.deepcopy(self._cache)
        for layer in cache:
            layer.reorder(torch.tensor(owners, device=self.device))
        with self._steered(steer, owners):
            return self.network(tokens, key_mask=real, cache=cache)

    def _steered(self, steer: Steer | None, owners: list[int]) -> AbstractContextManager[Any]:
        if steer is None:
            return nullcontext()
        return steered(self.network, layer=steer.layer, vectors=steer.vectors[owners], alpha=steer.alpha)

    def _right_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        longest = int(lengths.max())
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        return tokens, torch.arange(longest, device=self.device) < lengths.unsqueeze(-1)
