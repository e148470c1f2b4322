"""Tokenizers as Llama 3, Qwen and others publish them, against the library itself."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import Qwen2Converter, TikTokenConverter

from datamodules.tokenizers import PublishedTokenizer, read_tokenizer_json, tokenizer_from_dict
from datamodules.tokenizers.published import _LLAMA3, _QWEN2

MORE = ["12345 67\u00a0 it'S\r\n\r\n  x", "cafe\u0301 \u1112\u1161", " \n", "", "don't?!\n\n\tend  "]


def test_patterns_are_those_of_the_published_models() -> None:
    assert inspect.signature(TikTokenConverter).parameters["pattern"].default == _LLAMA3
    assert f'r"""{_QWEN2}"""' in inspect.getsource(Qwen2Converter)


def published(texts: list[str], kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix", use_regex=kind == "prefix")
    pattern = Regex({"llama3": _LLAMA3, "qwen2": _QWEN2}.get(kind, "x"))
    split = [] if kind == "prefix" else [pre_tokenizers.Split(pattern, "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level])
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts * 2, trainer)
    tokenizer.add_special_tokens(
        ["<|begin|>", AddedToken("<|l|>", lstrip=True), AddedToken("<|r|>", rstrip=True)]
    )
    if kind == "llama3":
        begin = tokenizer.token_to_id("<|begin|>")
        template = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


@pytest.fixture(params=["llama3", "qwen2", "prefix"])
def both(request: pytest.FixtureRequest, tmp_path: Path, hard_texts: list[str]) -> tuple[Any, Tokenizer]:
    """Ours and the library's; some merges are removed, so that `ignore_merges` matters."""
    path = tmp_path / "tokenizer.json"
    published(hard_texts + MORE, request.param).save(str(path))
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["model"]["merges"][::7]
    path.write_text(json.dumps(values), encoding="utf-8")
    return read_tokenizer_json(path), Tokenizer.from_file(str(path))


def test_ids_are_those_of_the_library(both: tuple[Any, Tokenizer], hard_texts: list[str]) -> None:
    ours, theirs = both
    assert isinstance(ours, PublishedTokenizer)
    start = list(ours.start_ids)
    for text in hard_texts + MORE:
        if "<|" not in text:
            assert start + ours.encode(text) == theirs.encode(text).ids
    marked = "a <|l|> b<|r|>  \n c <|r|> <|l|><|begin|>"
    assert start + ours.encode(marked, allow_special=True) == theirs.encode(marked).ids
    assert not set(ours.special_tokens.values()) & set(ours.encode(marked))
    again = tokenizer_from_dict(json.loads(json.dumps(ours.to_dict())))
    assert again.encode(marked, allow_special=True) == ours.encode(marked, allow_special=True)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_chunks_give_the_same_ids(both: tuple[Any, Tokenizer], hard_texts: list[str], size: int) -> None:
    ours, _ = both
    for text in [*hard_texts, *MORE, "a <|l|> b<|r|>  \n c <|r|> <|l|><|begin|> 12 1234567 x"]:
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        for allowed in (False, True):
            streamed = [id for ids in ours.encode_chunks(chunks, allow_special=allowed) for id in ids]
            assert streamed == ours.encode(text, allow_special=allowed)


def test_decoding_gives_the_text_back(both: tuple[Any, Tokenizer], hard_texts: list[str]) -> None:
    ours, theirs = both
    for text in hard_texts + MORE:
        normal = theirs.normalizer.normalize_str(text) if theirs.normalizer else text
        assert ours.decode(ours.encode(text)).removeprefix(" ") == normal.removeprefix(" ")
