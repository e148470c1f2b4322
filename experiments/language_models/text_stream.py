"""Turn a stream of tokens into text that can be shown at once: whole characters, up to a stop string."""

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """The text of tokens that arrive one by one.

    A character spread over several tokens appears with its last byte. Invalid UTF-8 appears as U+FFFD.
    Characters that may begin a stop string are held back until this is decided. The text ends before the
    first stop string that is complete.

    Args:
        token_bytes: Returns the bytes of a token.
        stop: Strings that end the text. They are not part of the text.

    Attributes:
        text: The text so far.
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
        """Add a token and return the new text."""
        return self._take(self._decoder.decode(self._token_bytes(token)))

    def finish(self) -> str:
        """End the text and return the characters that were held back."""
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
        """Return how many of the last characters may begin a stop string."""
        longest = min(max(map(len, self._stop), default=1) - 1, len(pending))
        for length in range(longest, 0, -1):
            if any(stop.startswith(pending[-length:]) for stop in self._stop):
                return length
        return 0
