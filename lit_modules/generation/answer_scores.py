"""Score and generate answers to prompts that are read once, with or without steering.

Shape letters: B prompts, A answers to all prompts, T tokens of the longest answer, V vocabulary.
"""

import copy
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.functional.sampling import greedy
from lit_modules.generation.decoding import device_of, left_padded
from lit_modules.generation.steered import SteeringVectors, steered
from lit_modules.layers.kv_cache import KVCache


class AnswerScorer:
    """Read prompts once, then score or generate any number of answers.

    Steering begins at the last token of a prompt, because its output chooses the first token of the answer
    (`generated` of `steered`). The keys and values before that token do not depend on the steering.

    Args:
        network: A `TransformerLM` in evaluation mode.
        prompts: Token ids, at least one for each prompt.
        longest_answer: Largest number of tokens in an answer.
        vocab_size: Size of the vocabulary; further outputs of the network do not count. `None`: all count.

    Raises:
        ValueError: A prompt is empty, or a prompt with its answer exceeds the context length.
    """

    def __init__(
        self,
        network: Any,
        prompts: Sequence[Sequence[int]],
        *,
        longest_answer: int = 1,
        vocab_size: int | None = None,
    ) -> None:
        if not all(prompts):
            raise ValueError("a prompt is empty")
        longest = max(map(len, prompts)) - 1 + longest_answer
        if longest > network.context_length:
            raise ValueError(
                f"a prompt and its answer have {longest} tokens, more than the context length "
                f"{network.context_length} of the model"
            )
        self.network = network
        self.last = [prompt[-1] for prompt in prompts]
        self.lengths = [len(prompt) for prompt in prompts]
        self.device = device_of(network)
        self.longest_answer = longest_answer
        self.vocab_size = vocab_size
        self._cache: list[KVCache] = network.make_cache(longest)
        before = [list(prompt[:-1]) for prompt in prompts]
        if any(before):
            # A prompt of one token is read as padding only, which leaves nothing in the cache.
            tokens, key_mask = left_padded(before, self.device)
            with torch.inference_mode():
                network(tokens, key_mask=key_mask, cache=self._cache, last_only=True)

    @torch.inference_mode()
    def log_probabilities(
        self, answers: Sequence[Sequence[Sequence[int]]], steering: SteeringVectors | None = None
    ) -> list[list[float]]:
        """Compute the mean log-probability per token of each answer, in nats.

        Args:
            answers: Token ids of any number of answers for each prompt, at least one token per answer.
            steering: One vector for each prompt; by default there is no steering.

        Returns:
            For each prompt, one number per answer.

        Raises:
            ValueError: An answer is empty or longer than `longest_answer`.
        """
        owners = [row for row, own in enumerate(answers) for _ in own]
        flat = [list(answer) for own in answers for answer in own]
        if not flat:
            return [[] for _ in answers]
        if not all(flat):
            raise ValueError("an answer is empty")
        texts = [[self.last[owner], *answer[:-1]] for owner, answer in zip(owners, flat, strict=True)]
        tokens, real = self._right_padded(texts)  # (A, T)
        logits = self._read(tokens, real, owners, steering)  # (A, T, V)
        targets, _ = self._right_padded(flat)
        chosen = widen(logits).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (A, T)
        means = ((chosen * real).sum(1) / real.sum(1)).tolist()
        found: list[list[float]] = [[] for _ in answers]
        for owner, mean in zip(owners, means, strict=True):
            found[owner].append(mean)
        return found

    @torch.inference_mode()
    def next_log_probabilities(self, steering: SteeringVectors | None = None) -> Tensor:
        """Compute the log-probabilities of the next token of each prompt, at least fp32 (B, V)."""
        rows = list(range(len(self.last)))
        tokens, real = self._right_padded([[token] for token in self.last])
        return widen(self._read(tokens, real, rows, steering)[:, 0]).log_softmax(-1)

    @torch.inference_mode()
    def write(
        self,
        max_new_tokens: int,
        *,
        stop_ids: Collection[int] = (),
        steering: SteeringVectors | None = None,
    ) -> list[list[int]]:
        """Generate an answer to each prompt greedily.

        The result equals greedy `generate`, but the prompts are not read again. Finished rows stay in the
        batch until the last row ends, so a row always shares its batch with the same rows.

        Args:
            max_new_tokens: Largest number of new tokens, at most `longest_answer`.
            stop_ids: Tokens that end an answer; they are not part of it.
            steering: One vector for each prompt; by default there is no steering.

        Returns:
            The token ids of each answer.

        Raises:
            ValueError: `max_new_tokens` is larger than `longest_answer`.
        """
        if max_new_tokens > self.longest_answer:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}, allowed is at most longest_answer {self.longest_answer}"
            )
        written: list[list[int]] = [[] for _ in self.last]
        going = set(range(len(written)))
        cache, tokens = copy.deepcopy(self._cache), torch.tensor(self.last, device=self.device)
        with self._steered(steering, list(range(len(written)))):
            for _ in range(max_new_tokens):
                logits = self.network(tokens.unsqueeze(-1), cache=cache, last_only=True)[:, -1]
                tokens = greedy(logits[:, : self.vocab_size])  # (B,)
                chosen = tokens.tolist()
                going = {row for row in going if chosen[row] not in stop_ids}
                for row in going:
                    written[row].append(chosen[row])
                if not going:
                    break
        return written

    def _read(
        self, tokens: Tensor, real: Tensor, owners: list[int], steering: SteeringVectors | None
    ) -> Tensor:
        # A deep copy: reordering to the same number of rows would overwrite the shared storage.
        cache = copy.deepcopy(self._cache)
        for layer in cache:
            layer.reorder(torch.tensor(owners, device=self.device))
        with self._steered(steering, owners):
            return self.network(tokens, key_mask=real, cache=cache)[..., : self.vocab_size]

    def _steered(self, steering: SteeringVectors | None, owners: list[int]) -> AbstractContextManager[Any]:
        if steering is None:
            return nullcontext()
        return steered(self.network, steering.select(owners))

    def _right_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        longest = int(lengths.max())
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        return tokens, torch.arange(longest, device=self.device) < lengths.unsqueeze(-1)
