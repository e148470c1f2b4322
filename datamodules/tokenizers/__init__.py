"""Text to tokens and back: characters, bytes, and byte pairs learned from a text."""

from datamodules.tokenizers.base import Tokenizer
from datamodules.tokenizers.byte import ByteTokenizer
from datamodules.tokenizers.character import CharacterTokenizer
from datamodules.tokenizers.plain_data import tokenizer_from_dict

__all__ = ["ByteTokenizer", "CharacterTokenizer", "Tokenizer", "tokenizer_from_dict"]
