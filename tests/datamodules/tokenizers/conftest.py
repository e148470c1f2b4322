"""Texts that are hard to split, merge and join."""

import random
import sys
import unicodedata
from collections.abc import Callable

import pytest

WRITTEN = [
    "",
    "a",
    " ",
    "\n",
    "  \n\n \t x  y\r\n\r\n",
    "I'll we've they're he'd I'm it's can't 's' 'll '  ' 'S 'LL don''t '' \t't",
    "x'l l'r e'v e'",
    "12 345 6.7e-8 ٣٤٥ ½²Ⅻ 三十 1 2  3   4",
    "a\u0301 e\u0308\u0323 \u0301 ก็ นี่ हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣",
    "\x00\x01\x1c\x1d\x1e\x1f\x7f\x80\x85\xa0\xad\u200b\u200d\u2028\u2029\ufeff\ufffe\uffff",
    "中文没有空格,只有标点。再来一句!",
    "\u3000\u2003 全角\u3000\u3000 x",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa aaaa aa a",
    "<|endoftext|> and <|im_start|>user",
    "\U0001f600\U0010ffff\U000e0001\U00020000",
]
DENSE = " '\n\t\r\x0b\x0csdtmlrevaZ09.!-_\u00e9\u00df\u4e2d\u0663\u00bd\u3000\u0301\u2028"


@pytest.fixture(scope="session")
def hard_texts() -> list[str]:
    """Fixed texts, and random ones from all of Unicode and from a few difficult characters."""
    rng = random.Random(0)
    anywhere = [p for p in range(sys.maxunicode + 1) if not 0xD800 <= p < 0xE000]
    texts = list(WRITTEN)
    for _ in range(60):
        texts.append("".join(map(chr, rng.choices(anywhere, k=rng.randrange(1, 60)))))
        texts.append("".join(rng.choices(DENSE, k=rng.randrange(1, 60))))
        texts.append("".join(map(chr, rng.choices(range(0x3000), k=rng.randrange(1, 60)))))
    return texts


@pytest.fixture(scope="session")
def known() -> Callable[[str], str]:
    """Remove the characters that this Python's Unicode tables don't know."""
    return lambda text: "".join(c for c in text if unicodedata.category(c) != "Cn")
