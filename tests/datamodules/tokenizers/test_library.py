"""The library's backend: a pre-trained vocabulary gives the same ids as the library's own reader."""

import json
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer

from datamodules.tokenizers import LibraryBytePairTokenizer, read_gpt2_files, train_byte_pairs


def test_ids_are_those_of_the_librarys_own_tokenizer(tmp_path: Path, hard_texts: list[str]) -> None:
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator(hard_texts * 2, vocab_size=500, show_progress=False)
    theirs.save_model(str(tmp_path))
    ours = read_gpt2_files(tmp_path)
    assert type(ours) is LibraryBytePairTokenizer
    assert ours.vocab_size == theirs.get_vocab_size()
    for text in [*hard_texts, "".join(hard_texts)]:
        assert ours.encode(text) == theirs.encode(text).ids


def test_a_megabyte_of_one_piece_is_merged_quickly() -> None:
    trained = train_byte_pairs(["ab" * 500], 300)
    tokenizer = LibraryBytePairTokenizer(trained.tokens, trained.merges)
    assert tokenizer.decode(tokenizer.encode("ab" * 500_000)) == "ab" * 500_000


def test_plain_data_names_the_implementation() -> None:
    trained = train_byte_pairs(["aaaa"], 257)
    tokenizer = LibraryBytePairTokenizer(trained.tokens, trained.merges)
    assert json.loads(json.dumps(tokenizer.to_dict()))["implementation"] == "library"
    assert trained.to_dict()["implementation"] == "by_hand"


@pytest.mark.parametrize("chunks", [[], [""], ["", "a b", "", " c"]])
def test_odd_streams(chunks: list[str]) -> None:
    trained = train_byte_pairs(["a b c " * 3], 260)
    tokenizer = LibraryBytePairTokenizer(trained.tokens, trained.merges)
    streamed = [id for ids in tokenizer.encode_chunks(chunks) for id in ids]
    assert streamed == tokenizer.encode("".join(chunks))
