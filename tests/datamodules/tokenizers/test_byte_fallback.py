"""Tokenizers as Llama 2, Mistral and TinyLlama publish them, against the library itself."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from datamodules.tokenizers import ByteFallbackTokenizer, read_tokenizer_json, tokenizer_from_dict

MORE = [
    "  two  spaces   ",
    "▁",
    "a▁▁b ▁ c",
    "a a aa a",
    "\n\n x\ty ",
    "<0x41> <unk",
    "🦙 ok🦙🦙",
    "\x00 \x00a",
    "             x",
]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPECIAL = ["<unk>", "<s>", "</s>"]


def published(texts: list[str], scheme: str) -> Tokenizer:
    """A vocabulary with few characters and runs of spaces, like Llama's; "joined" has tokens of two words."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, limit_alphabet=80, show_progress=False)
    learned.train_from_iterator(texts * 2, trainer)
    model = json.loads(learned.to_str())["model"]
    runs = [("▁" * 2**n, "▁" * 2**n) for n in range(3)]
    joined = [("a", "▁"), ("a▁", "a")] if scheme == "joined" else []
    merges = joined + runs + [tuple(merge) for merge in model["merges"] if set(merge) != {"▁"}]
    characters = [name for name in model["vocab"] if len(name) == 1]
    names = [*SPECIAL, *BYTES, *map("".join, merges), *characters]
    vocab = {name: id for id, name in enumerate(dict.fromkeys(names))}
    bpe = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.add_special_tokens(SPECIAL)
    if scheme in ("prepend", "joined"):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture(params=["prepend", "joined", "first", "always", "never"])
def both(request: pytest.FixtureRequest, tmp_path: Path, hard_texts: list[str]) -> tuple[Any, Tokenizer]:
    theirs = published(hard_texts, request.param)
    theirs.save(str(tmp_path / "tokenizer.json"))
    return read_tokenizer_json(tmp_path / "tokenizer.json"), theirs


def test_ids_are_those_of_the_library(both: tuple[Any, Tokenizer], hard_texts: list[str]) -> None:
    ours, theirs = both
    assert isinstance(ours, ByteFallbackTokenizer)
    assert (ours.start_ids, ours.vocab_size) == ((1,), theirs.get_vocab_size())
    for text in hard_texts + MORE:
        assert [1, *ours.encode(text)] == theirs.encode(text).ids
    marked = "a b<s> c</s></s>d <unk>\n<s>"
    assert [1, *ours.encode(marked, allow_special=True)] == theirs.encode(marked).ids
    assert not {0, 1, 2} & set(ours.encode(marked))
    again = tokenizer_from_dict(json.loads(json.dumps(ours.to_dict())))
    assert again.encode(marked, allow_special=True) == ours.encode(marked, allow_special=True)


def test_decoding_gives_the_librarys_text(both: tuple[Any, Tokenizer], hard_texts: list[str]) -> None:
    ours, theirs = both
    for text in hard_texts + MORE:
        ids = ours.encode(text)
        decoded, plain = ours.decode(ids), text.replace("▁", " ")
        assert decoded.removeprefix(" ") == theirs.decode(ids)
        assert decoded in (plain, f" {plain}")
    assert ours.decode(ours.encode("🦙")[-4:-1]) == "\ufffd"
    assert ours.decode([1, 3, 258]) == "<s>\x00\ufffd"


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_chunks_give_the_same_ids(both: tuple[Any, Tokenizer], hard_texts: list[str], size: int) -> None:
    ours, _ = both
    for text in [*hard_texts, *MORE, "a b<s> c</s></s>d  <unk> \n<s>", "<s>a"]:
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        for allowed in (False, True):
            streamed = [id for ids in ours.encode_chunks(chunks, allow_special=allowed) for id in ids]
            assert streamed == ours.encode(text, allow_special=allowed)


def test_a_file_that_transformers_writes(hard_texts: list[str], tmp_path: Path) -> None:
    model = json.loads(published(hard_texts, "first").to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    theirs = transformers.LlamaTokenizer(vocab=model["vocab"], merges=merges)
    theirs.save_pretrained(tmp_path)
    ours = read_tokenizer_json(tmp_path / "tokenizer.json")
    for text in hard_texts + MORE:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "model.byte_fallback = True isn't implemented with normalizer"),
        ({"pre_tokenizer": None}, "and pre_tokenizer = None, only with 'Prepend' and 'Replace', or with"),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}},
            "only with",
        ),
        ({"model.ignore_merges": True}, "model.ignore_merges = True isn't implemented with model.byte_fall"),
        ({"model.merges": [["a", "b", "c"]]}, "the library tokenizers refuses it: "),
        ({"model.merges": [["a", "nonsense"]]}, "the library tokenizers refuses it: Token `nonsense` out of"),
        ({"model.vocab.<0x41>": None}, "needs the token '<0x41>' in the vocabulary"),
        ({"model.vocab.▁": None}, "needs the token '▁' in the vocabulary"),
        ({"model.unk_token": 5}, "the library tokenizers refuses it: invalid type: integer `5`"),
    ],
)
def test_an_unimplemented_setting_is_refused_by_name(
    changes: dict[str, Any], message: str, hard_texts: list[str], tmp_path: Path
) -> None:
    values = json.loads(published(hard_texts, "first").to_str())
    for key, value in changes.items():
        inner: Any = values
        *parts, last = key.split(".")
        for part in parts:
            inner = inner[part]
        inner[last] = copy.deepcopy(value)
        if value is None and parts:
            del inner[last]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        read_tokenizer_json(tmp_path / "tokenizer.json")
    assert message in str(caught.value)
