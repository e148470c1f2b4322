"""GPT-2's alphabet, which writes each byte as a visible character; vocabularies and merges are stored in it.

A byte that is a visible character in Latin-1 is written as that character. The other 68 bytes, such as the
space and controls, are written as U+0100, U+0101, … in order: a space is `Ġ`, a line feed `Ċ`. No token in a
merges file therefore contains the space that separates tokens.
"""

_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]

BYTE_CHARACTERS = {byte: chr(byte) for byte in _VISIBLE} | {
    byte: chr(0x100 + n) for n, byte in enumerate(_HIDDEN)
}
"""Character of each byte."""

_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def to_characters(data: bytes) -> str:
    """Write each byte as a visible character."""
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


def to_bytes(characters: str) -> bytes:
    """Invert `to_characters`.

    Raises:
        ValueError: A character is not in the alphabet.
    """
    try:
        return bytes(_BYTES[character] for character in characters)
    except KeyError as error:
        raise ValueError(f"{characters!r} is not in GPT-2's byte alphabet, which has no {error}") from None
