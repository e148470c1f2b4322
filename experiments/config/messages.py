"""Write keys and values of a config in messages: short, on one line, and without control characters."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LONGEST_WORD = 100


def show(value: Any, longest: int = 100) -> str:
    """Write a value as a config would, cut after `longest` characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write more than 4300 digits
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        value = value[: longest + 1]
    elif isinstance(value, (list, tuple)):
        shown = ", ".join(show(item, longest) for item in value[: longest // 2])
        return cut(f"[{shown}{', …' if len(value) > longest // 2 else ''}]", longest)
    elif isinstance(value, dict):
        pairs = list(value.items())[: longest // 4]
        return cut(
            "{" + ", ".join(f"{show(k, longest)}: {show(v, longest)}" for k, v in pairs) + "}", longest
        )
    return cut(repr(value), longest)


def cut(text: str, longest: int = 100) -> str:
    """Shorten a text in the middle, and escape its control characters."""
    text = escaped(text if len(text) <= 4 * longest else text[: 2 * longest] + text[-longest:])
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def escaped(text: str) -> str:
    """Escape control characters, line ends and other characters that a terminal does not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, allowed: Iterable[Any]) -> str:
    """Return `" (did you mean …?)"` if an allowed name is close, else an empty string."""
    if len(name) > _LONGEST_WORD:  # the search takes quadratic time
        return ""
    close = difflib.get_close_matches(name, [str(a) for a in allowed], n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def plain_path(path: Path) -> str:
    """Return a path as text that no command takes for an option or for the home of a user."""
    text = str(path)
    return f"./{text}" if text.startswith(("-", "~")) else text
