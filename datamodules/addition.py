"""Addition problems with worked answers: a task that a small language model learns in minutes."""

import random

import torch

from datamodules.base import ResidentDataModule
from datamodules.chat_corpus import rows
from datamodules.configs.addition import AdditionConfig
from datamodules.info import TextInfo
from datamodules.loading.epoch_loader import mix_seed
from datamodules.text.chat_formats import Encoded
from datamodules.tokenizers.character import CharacterTokenizer

ALPHABET = "\n+,0123456789="
END = "\n"
"""The character that ends an answer."""
Problem = tuple[int, int]


class AdditionDataModule(ResidentDataModule):
    """Problems such as `47+85=` with answers such as `12,13,132`.

    A training batch is (tokens, targets), int64 (B, T) each. A target is the next character of an answer, and
    −100 in the prompt and in the padding. Evaluation batches add a boolean tensor (B,): whether a problem is
    longer than those of the training.
    """

    config: AdditionConfig
    info: TextInfo

    def setup(self, stage: str | None = None) -> None:
        """Draw the problems; a second call changes nothing."""
        if self._info is not None:
            return
        config, tokenizer = self.config, CharacterTokenizer(ALPHABET)
        draw = Draw(config.split_seed)
        shortest, longest = config.min_digits, config.max_digits
        test = draw.problems(config.test_size, shortest, longest)
        val = draw.problems(config.val_size, shortest, longest)
        digits = config.max_digits + config.longer_by
        longer = draw.problems(config.longer_size, digits, digits)
        # The last draw: so the held-out problems do not depend on the size of the training.
        train = draw.problems(config.train_skip + config.train_size, shortest, longest)[config.train_skip :]
        for name, problems in (("train", train), ("val", val), ("test", test + longer)):
            encoded = [encode(tokenizer, *problem) for problem in problems]
            width = max(len(each.ids) for each in encoded) - 1
            self._parts[name] = rows(encoded, width, packed=False)[:2]
            if name != "train":
                is_longer = [max(problem) >= 10**config.max_digits for problem in problems]
                self._parts[name] += (torch.tensor(is_longer),)
        largest = 10**digits - 1
        answer_length = len(worked_answer(largest, largest) + END)
        self._info = TextInfo(
            vocab_size=tokenizer.vocab_size,
            context_length=len(f"{largest}+{largest}=") + answer_length - 1,
            train_context_length=self._parts["train"][0].shape[1],
            tokenizer=tokenizer.to_dict(),
            answer_length=answer_length,
            answer_end=ALPHABET.index(END),
            train_size=len(train),
            val_size=len(val),
            test_size=len(test) + len(longer),
        )


class Draw:
    """Draws problems that differ from all problems before, in either order of the numbers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(mix_seed(seed))
        self._seen: set[Problem] = set()

    def problems(self, count: int, shortest: int, longest: int) -> list[Problem]:
        """Draw problems; each number of digits is equally probable while there are new problems of it."""
        drawn: list[Problem] = []
        while len(drawn) < count:
            a, b = (self._number(self._random.randint(shortest, longest)) for _ in range(2))
            if (min(a, b), max(a, b)) not in self._seen:
                self._seen.add((min(a, b), max(a, b)))
                drawn.append((a, b))
        return drawn

    def _number(self, digits: int) -> int:
        return self._random.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def worked_answer(a: int, b: int) -> str:
    """Return the sum of each column, from the right, then the result: `12,13,132` for 47 + 85."""
    steps, carry = [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        column = a // 10**place % 10 + b // 10**place % 10 + carry
        carry = column // 10
        steps.append(column)
    return ",".join(map(str, [*steps, a + b]))


def encode(tokenizer: CharacterTokenizer, a: int, b: int) -> Encoded:
    """Return the tokens of a problem and its answer, and which of them belong to the answer."""
    prompt, answer = f"{a}+{b}=", worked_answer(a, b) + END
    return Encoded(tokenizer.encode(prompt + answer), [False] * len(prompt) + [True] * len(answer))
