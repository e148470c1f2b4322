"""GPT-2's way to write bytes as visible characters, in which vocabularies and merges are stored.

A byte whose Latin-1 character is visible is written as that character; the other 68, the space and controls
among them, as U+0100, U+0101, … in their order. So a space is `Ġ` and a line feed `Ċ`, and no token of a
merges file holds the space that parts them.
"""

_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]

BYTE_CHARACTERS = {byte: chr(byte) for byte in _VISIBLE} | {
    byte: chr(0x100 + n) for n, byte in enumerate(_HIDDEN)
}
"""The character of each byte."""

_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def to_characters(data: bytes) -> str:
    """Bytes as visible characters, one each."""
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


def to_bytes(characters: str) -> bytes:
    """The inverse of `to_characters`.

    Raises:
        ValueError: One of the characters stands for no byte.
    """
    try:
        return bytes(_BYTES[character] for character in characters)
    except KeyError as error:
        raise ValueError(f"{characters!r} is not in GPT-2's byte alphabet, which has no {error}") from None
