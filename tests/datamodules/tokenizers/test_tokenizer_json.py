"""tokenizer.json against the library's own reader, and malformed files."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from datamodules.tokenizers import read_tokenizer_json

END = "<|endoftext|>"


def trained(texts: list[str], *, digits: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if digits else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=[END], show_progress=False
    )
    tokenizer.train_from_iterator(texts * 2, trainer)
    tokenizer.add_special_tokens([AddedToken("<|late|>", special=True, normalized=False)])
    return tokenizer


@pytest.fixture
def path(tmp_path: Path, hard_texts: list[str]) -> Path:
    trained(hard_texts, digits=True).save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("digits", [True, False])
def test_ids_are_those_of_the_library(tmp_path: Path, hard_texts: list[str], digits: bool) -> None:
    theirs = trained(hard_texts, digits=digits)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert ours.special_tokens == {END: 0, "<|late|>": 400}
    assert (ours.vocab_size, ours.individual_digits) == (401, digits)
    for text in hard_texts:
        if END not in text:
            assert ours.encode(text) == theirs.encode(text).ids
    assert ours.encode(f"a{END}<|late|>", allow_special=True) == theirs.encode(f"a{END}<|late|>").ids


def test_a_template_may_add_nothing(tmp_path: Path, hard_texts: list[str]) -> None:
    theirs = trained(hard_texts, digits=False)
    theirs.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    theirs.save(str(tmp_path / "tokenizer.json"))
    content = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes("\ufeff".encode() + content)  # a byte order mark is dropped
    ours = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert ours.encode(hard_texts[0]) == theirs.encode(hard_texts[0]).ids


def test_merges_may_be_strings(path: Path) -> None:
    expected = read_tokenizer_json(path).to_dict()
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["merges"] = [" ".join(merge) for merge in values["model"]["merges"]]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_tokenizer_json(path).to_dict() == expected


def test_an_old_file_doesnt_name_its_model(path: Path, hard_texts: list[str]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["model"]["type"]
    path.write_text(json.dumps(values), encoding="utf-8")
    ours, theirs = read_tokenizer_json(path), Tokenizer.from_file(str(path))
    for text in hard_texts:
        if END not in text:
            assert ours.encode(text) == theirs.encode(text).ids
    del values["model"]["merges"]  # as a WordPiece model's file
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match="malformed: KeyError 'merges'"):
        read_tokenizer_json(path)


def set_at(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    *parts, last = key.split(".")
    inner: Any = values
    for part in parts:
        inner = inner[int(part) if part.isdigit() else part]
    inner[int(last) if last.isdigit() else last] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.type", "Unigram", "model.type = 'Unigram' isn't implemented, only 'BPE'"),
        ("model.byte_fallback", True, "model.byte_fallback = True isn't implemented"),
        ("model.dropout", 0.1, "model.dropout = 0.1 isn't implemented"),
        ("normalizer", {"type": "Lowercase"}, "normalizer = {'type': 'Lowercase'} isn't implemented"),
        (
            "post_processor",
            {"type": "RobertaProcessing"},
            "post_processor 'RobertaProcessing' isn't implemented",
        ),
        (
            "post_processor",
            {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": END}}],
            },
            "post_processor 'TemplateProcessing' with tokens after a text isn't implemented",
        ),
        ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer ['Metaspace'] isn't implemented"),
        ("pre_tokenizer", {"type": "ByteLevel", "use_regex": False}, "needs a 'Split' before it"),
        ("pre_tokenizer.pretokenizers.0.individual_digits", False, "'individual_digits': False} isn't"),
        ("pre_tokenizer.pretokenizers.0", {"type": "Split", "pattern": {"Regex": "x+"}}, "'x+'} isn't"),
        ("added_tokens.0.single_word", True, f"added token {END!r}.single_word = True isn't implemented"),
        ("added_tokens.1.id", 500, "the 401 tokens must have the ids 0 … 400"),
        ("added_tokens.0.id", 3, "has another id in the vocabulary"),
        ("model.merges", [["a", "nonsense"]], "lacks the token 'nonsense'"),
        ("model.vocab", 3, "malformed: TypeError"),
        ("pre_tokenizer", None, "malformed: TypeError"),
    ],
)
def test_an_unimplemented_setting_is_refused_by_name(path: Path, key: str, value: Any, message: str) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(set_at(values, key, value)), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        read_tokenizer_json(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "malformed"),
        (b"{}", "malformed: KeyError 'model'"),
    ],
)
def test_files_of_another_kind(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tokenizer_json(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be read: No such file or directory"):
        read_tokenizer_json(tmp_path / "tokenizer.json")
