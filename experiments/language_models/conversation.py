"""A conversation as token ids, trimmed by whole turns to what the model can read."""

from collections.abc import Sequence

from experiments.errors import UserError
from experiments.language_models.chat import Chat

LONGEST = 8192
"""Largest number of tokens of a conversation, for the memory of a model with a longer context."""


class Conversation:
    """The system message and the turns so far.

    Earlier tokens stay as they are, so a cache of keys and values can be continued. Trimming and `reset`
    change them, and formats that mark the last question or answer.

    Args:
        chat: The format of the conversation.
        context_length: Context length of the model; None if it is unlimited.

    Attributes:
        limit: Largest number of tokens.
    """

    def __init__(self, chat: Chat, context_length: int | None) -> None:
        self._chat = chat
        self._opening = chat.opening()
        self._turns: list[list[int]] = []  # the questions with their answers
        self._asked: list[int] = []  # the last question, as the turns have it
        self.limit = min(context_length or LONGEST, LONGEST)

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self._turns.clear()

    def ask(self, message: str, *, room: int) -> tuple[list[int], int]:
        """Encode the conversation up to the answer to a new message.

        If it becomes too long, the oldest turns are dropped until at most half of the limit is left: the rest
        has to be read again, and this should not happen at each turn.

        Args:
            message: What the user says.
            room: Largest number of tokens of the answer; less if the message is long.

        Returns:
            The token ids, and the number of dropped turns.

        Raises:
            UserError: The message is too long, or has characters that the vocabulary lacks.
        """
        try:
            question = self._chat.question(message)
            self._asked = self._chat.past_question(message)
        except ValueError as error:
            raise UserError(str(error)) from error
        own = len(self._opening) + len(question)
        if own >= self.limit:
            raise UserError(
                f"the message is too long: with the system message it has {own:,} tokens, but the model "
                f"reads at most {self.limit:,}; shorten it"
            )
        count = len(self._turns)
        if self._length() + own + room > self.limit:
            kept = min(self.limit - own - room, self.limit // 2)
            while self._turns and self._length() > kept:
                del self._turns[0]
        earlier = [token for turn in self._turns for token in turn]
        return [*self._opening, *earlier, *question], count - len(self._turns)

    def add(self, answer: Sequence[int]) -> None:
        """Add a turn: the message of the last `ask` and the model's answer to it."""
        self._turns.append([*self._asked, *answer, *self._chat.answer_end()])

    def _length(self) -> int:
        return sum(map(len, self._turns))
