"""Tokenizers: characters, bytes, and byte pairs learned from a text."""

from datamodules.tokenizers.byte import ByteTokenizer
from datamodules.tokenizers.byte_fallback import ByteFallbackTokenizer
from datamodules.tokenizers.byte_pair import BytePairTokenizer
from datamodules.tokenizers.byte_pair_training import train_byte_pairs
from datamodules.tokenizers.character import CharacterTokenizer
from datamodules.tokenizers.gguf_vocabulary import tokenizer_of_gguf
from datamodules.tokenizers.gpt2_files import read_gpt2_files
from datamodules.tokenizers.library import LibraryBytePairTokenizer, train_by_library
from datamodules.tokenizers.plain_data import tokenizer_from_dict
from datamodules.tokenizers.published import PublishedTokenizer
from datamodules.tokenizers.tokenizer import Tokenizer
from datamodules.tokenizers.tokenizer_json import read_tokenizer_json

__all__ = [
    "ByteFallbackTokenizer",
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "LibraryBytePairTokenizer",
    "PublishedTokenizer",
    "Tokenizer",
    "read_gpt2_files",
    "read_tokenizer_json",
    "tokenizer_from_dict",
    "tokenizer_of_gguf",
    "train_by_library",
    "train_byte_pairs",
]
