"""Tokens as they come, turned into text that can be shown at once: whole characters, up to a stop string."""

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """The text of tokens that come one by one.

    A character whose bytes are spread over tokens comes out with its last byte; bytes that are no UTF-8 as
    U+FFFD. What may be the beginning of a stop string is held back until that is decided; the text ends
    before the stop string that is complete first.

    Args:
        token_bytes: The bytes that a token stands for.
        stop: Strings that end the text and are no part of it.

    Attributes:
        text: Everything that has come out.
        stopped: Whether a stop string ended the text.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        self._token_bytes = token_bytes
        self._stop = [string for string in stop if string]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token; returns what now comes out."""
        return self._take(self._decoder.decode(self._token_bytes(token)))

    def finish(self) -> str:
        """No more tokens: returns what was held back."""
        out = self._take(self._decoder.decode(b"", final=True))
        if not self.stopped:
            out += self._held
            self.text += self._held
            self._held = ""
        return out

    def _take(self, text: str) -> str:
        if self.stopped:
            return ""
        pending = self._held + text
        found = [(at + len(stop), at) for stop in self._stop if (at := pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            out, self._held = pending[: min(found)[1]], ""
        else:
            kept = self._undecided(pending)
            out, self._held = pending[: len(pending) - kept], pending[len(pending) - kept :]
        self.text += out
        return out

    def _undecided(self, pending: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = min(max(map(len, self._stop), default=1) - 1, len(pending))
        for length in range(longest, 0, -1):
            if any(stop.startswith(pending[-length:]) for stop in self._stop):
                return length
        return 0
