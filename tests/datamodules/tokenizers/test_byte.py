"""Bytes as tokens."""

from datamodules.tokenizers import ByteTokenizer


def test_ids_are_the_bytes_of_utf8() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("aé€") == [0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC]
    assert tokenizer.token_bytes(0xC3) == b"\xc3"
    assert tokenizer.vocab_size == 256
