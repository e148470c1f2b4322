"""Conversations as rows of tokens, packed or padded; only the assistant's tokens are learned.

Shape letters: B batch, T tokens.
"""

from pathlib import Path

import torch
from torch import Tensor

from datamodules.base import PARTS, ResidentDataModule
from datamodules.configs.chat_corpus import ChatConfig
from datamodules.info import TextInfo
from datamodules.loading.token_windows import IGNORED
from datamodules.text.chat_formats import FORMATS, ChatFormat, Encoded, encode_conversation, missing_special
from datamodules.text.conversations import SPLITS, Conversation, packed_rows, read_conversations
from datamodules.text.text_source import TextInMemory
from datamodules.text.token_preparation import make_tokenizer
from datamodules.tokenizers.tokenizer import Tokenizer


class ChatDataModule(ResidentDataModule):
    """Conversations from a JSONL file.

    A batch is `(x, y, documents)`, each int64 (B, T). `y` holds the next token for each token of `x`, or −100
    if the next token is not the assistant's. `documents` holds the number of each token's conversation in its
    row. A token attends only to tokens of its own conversation.
    """

    config: ChatConfig
    info: TextInfo

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode the conversations; further calls do nothing.

        Raises:
            ValueError: The file is missing or malformed, has too few conversations, or the vocabulary lacks
                the special tokens of the template.
        """
        if self._info is not None:
            return
        config = self.config
        if config.path is None:
            raise ValueError(
                f"data.from_stage: {config.from_stage} works only in a chain of stages; set data.path"
            )
        conversations, val, test = split_in_order(read_conversations(Path(config.path)), config)
        texts = [" ".join(message.content for message in one.messages) for one in conversations]
        training = "\n".join(texts[:val])
        tokenizer = self.given_tokenizer or make_tokenizer(
            config.tokenizer, TextInMemory("\n".join(texts)), (0, len(training))
        )
        template = config.template or "chatml"
        chat_format = FORMATS[template]
        if missing := missing_special(tokenizer, chat_format):
            advice = f"set data.tokenizer.special_tokens: {chat_format.special_names}"
            if self.given_tokenizer:
                advice = "choose another format"
            raise ValueError(
                f"data.template: {template}; the vocabulary lacks the special token {missing}; {advice}"
            )
        encoded = [_encoded(one, tokenizer, chat_format, config.path) for one in conversations]
        for name, part in zip(PARTS, (encoded[:val], encoded[val:test], encoded[test:]), strict=True):
            self._parts[name] = rows(part, config.context_length, packed=config.packed)
            if not (self._parts[name][1] != IGNORED).any():
                raise ValueError(
                    f"no answer of the {name} split begins within context_length {config.context_length}"
                )
        self._info = TextInfo(
            vocab_size=tokenizer.vocab_size,
            context_length=config.context_length,
            tokenizer=tokenizer.to_dict(),
            chat_template=template,
            train_size=len(self._parts["train"][0]),
            val_size=len(self._parts["val"][0]),
            test_size=len(self._parts["test"][0]),
        )


def _encoded(conversation: Conversation, tokenizer: Tokenizer, chat_format: ChatFormat, path: str) -> Encoded:
    try:
        return encode_conversation(tokenizer, conversation.messages, chat_format, system=chat_format.system)
    except ValueError as error:
        raise ValueError(f"{path}, line {conversation.line}: {error}") from error


def split_in_order(
    conversations: list[Conversation], config: ChatConfig
) -> tuple[list[Conversation], int, int]:
    """Sort conversations by the splits that they name; without splits, keep their order.

    Returns:
        The conversations, and the indices of the first for validation and of the first for the test.

    Raises:
        ValueError: A split is empty.
    """
    count = len(conversations)
    if count and conversations[0].split is not None:
        conversations = sorted(conversations, key=lambda one: SPLITS.index(str(one.split)))
        val, test = (sum(one.split in SPLITS[:end] for one in conversations) for end in (1, 2))
        if missing := [split for split in SPLITS if split not in {one.split for one in conversations}]:
            raise ValueError(f"{config.path} has no conversation of the split {missing[0]}")
    else:
        val = int(count * (1 - config.val_fraction - config.test_fraction))
        test = int(count * (1 - config.test_fraction))
    if not 0 < val < test < count:
        raise ValueError(f"{config.path} has {count} conversations, too few for three splits")
    return conversations, val, test


def rows(conversations: list[Encoded], width: int, *, packed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Arrange conversations in rows.

    Returns:
        Tokens, targets and conversation numbers, each int64 (N, width). Padding has the number −1, and its
        targets are ignored.
    """
    cut = [Encoded(ids[: width + 1], answer[: width + 1]) for ids, answer in conversations]
    lengths = [len(ids) - 1 for ids, _ in cut]
    layout = list(packed_rows(lengths, width)) if packed else [[i] for i in range(len(cut))]
    x = torch.zeros(len(layout), width, dtype=torch.long)
    y, documents = torch.full_like(x, IGNORED), torch.full_like(x, -1)
    for row, members in enumerate(layout):
        position = 0
        for number, index in enumerate(members):
            place = slice(position, position + lengths[index])
            ids, answer = torch.tensor(cut[index].ids), torch.tensor(cut[index].is_answer)
            x[row, place] = ids[:-1]
            y[row, place] = ids[1:].masked_fill(~answer[1:], IGNORED)
            documents[row, place] = number
            position += lengths[index]
    return x, y, documents
