"""Print growing texts below each other."""

import sys
from collections.abc import Sequence
from typing import Any, cast

from experiments.sample.prompt_encoding import shorten


class Printer:
    """Prints each text after its prompt. If there are several texts, a heading comes before each.

    Args:
        texts: The prompt or message of each text.
        is_chat: Whether these are messages, which are shown in the heading.
    """

    def __init__(self, texts: Sequence[str], *, is_chat: bool) -> None:
        self._texts = texts
        self._is_chat = is_chat
        self._begun = 0
        if hasattr(sys.stdout, "reconfigure"):
            cast(Any, sys.stdout).reconfigure(errors="replace")  # For a terminal that lacks some characters.

    def show(self, number: int, new: str) -> None:
        """Print the next characters of a text."""
        self._begin(number + 1)
        print(new, end="", flush=True)

    def finish(self) -> None:
        """End the last line, and print the headings of texts that stayed empty."""
        self._begin(len(self._texts))
        print(flush=True)

    def _begin(self, count: int) -> None:
        for number in range(self._begun, count):
            if number:
                print()
            if len(self._texts) > 1:
                about = f": {shorten(self._texts[number])}" if self._is_chat else ""
                print(f"── {number + 1} of {len(self._texts)}{about} ──")
            if not self._is_chat:
                print(self._texts[number], end="")
        self._begun = max(self._begun, count)
