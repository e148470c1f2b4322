"""Preparing token files: splits, reuse, damage, and two processes at once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.configs.token_corpus import TokenCorpusConfig, TokenizerConfig
from datamodules.failures import RunError
from datamodules.text import token_preparation
from datamodules.text.text_source import TextInMemory
from datamodules.text.token_preparation import (
    PreparedCorpus,
    bytes_per_target,
    make_tokenizer,
    part_bounds,
    prepare_corpus,
)
from datamodules.tokenizers import BytePairTokenizer, ByteTokenizer, CharacterTokenizer, train_byte_pairs

TEXT = "The quick brown fox — it's 7 — jumps over the lazy dog.\n" * 20


def prepare(
    root: Path, text: str = TEXT, tokenizer: TokenizerConfig | None = None, **values: Any
) -> PreparedCorpus:
    config = TokenCorpusConfig(root=str(root), tokenizer=tokenizer or TokenizerConfig(), **values)
    return prepare_corpus(TextInMemory(text), config, name="test")


def folders(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "tokens").iterdir() if not p.name.startswith("."))


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
@pytest.mark.parametrize("implementation", ["library", "by_hand"])
def test_splits_are_contiguous_and_by_characters(tmp_path: Path, kind: Any, implementation: Any) -> None:
    """Every tokenizer is evaluated on the same characters."""
    settings = TokenizerConfig(kind=kind, implementation=implementation, vocab_size=280)
    corpus = prepare(tmp_path, tokenizer=settings, val_fraction=0.2, test_fraction=0.1)
    texts = [corpus.tokenizer.decode(corpus.parts[part].tolist()) for part in ("train", "val", "test")]
    assert "".join(texts) == TEXT
    assert [len(text) for text in texts] == [784, 224, 112]


def test_two_splits_have_no_test(tmp_path: Path) -> None:
    assert prepare(tmp_path, test_fraction=0.0).parts.keys() == {"train", "val"}


def test_tiny_shakespeares_split_is_the_published_one() -> None:
    config = TokenCorpusConfig(val_fraction=0.1, test_fraction=0.0)
    assert part_bounds(1_115_394, config) == {"train": (0, 1_003_854), "val": (1_003_854, 1_115_394)}


@pytest.mark.parametrize(
    ("characters", "message"),
    [(0, "the corpus is empty"), (1, "only 1 characters: the train split is empty")],
)
def test_a_text_too_short_to_split_is_refused(tmp_path: Path, characters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, "x" * characters)
    assert not (tmp_path / "tokens").exists()


def test_merges_are_learned_from_the_training_split() -> None:
    source = TextInMemory("ab" * 50 + "xyz" * 50)
    config = TokenizerConfig(kind="bpe", vocab_size=300)
    learned = make_tokenizer(config, source, (0, 100))
    assert isinstance(learned, BytePairTokenizer)
    assert not [token for token in learned.tokens if len(token) > 1 and "x" in token]
    alphabet = make_tokenizer(TokenizerConfig(), source, (0, 100))
    assert isinstance(alphabet, CharacterTokenizer)
    assert alphabet.alphabet == "abxyz"


def test_a_vocabulary_from_files_is_used_unchanged(tmp_path: Path) -> None:
    trained = train_byte_pairs(["the the the"], 260)
    (tmp_path / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(trained.tokens)}))
    (tmp_path / "merges.txt").write_text("\n".join(trained.merges), encoding="utf-8")
    settings = TokenizerConfig(kind="bpe", path=str(tmp_path))
    corpus = prepare(tmp_path / "root", tokenizer=settings)
    assert isinstance(corpus.tokenizer, BytePairTokenizer)
    assert corpus.tokenizer.merges == trained.merges
    (tmp_path / "merges.txt").write_text(trained.merges[0])
    assert prepare(tmp_path / "root", tokenizer=settings).tokenizer.to_dict() != corpus.tokenizer.to_dict()
    assert len(folders(tmp_path / "root")) == 2


def test_prepared_files_are_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(tmp_path, tokenizer=TokenizerConfig(kind="bpe", vocab_size=280))
    monkeypatch.delattr(token_preparation, "_prepare")
    again = prepare(tmp_path, tokenizer=TokenizerConfig(kind="bpe", vocab_size=280))
    assert again.tokenizer.to_dict() == first.tokenizer.to_dict()
    assert all(np.array_equal(again.parts[part], first.parts[part]) for part in first.parts)


@pytest.mark.parametrize(
    "changed",
    [
        {"text": TEXT + "."},
        {"val_fraction": 0.1},
        {"test_fraction": 0.1},
        {"tokenizer": TokenizerConfig(kind="byte")},
        {"tokenizer": TokenizerConfig(kind="bpe", vocab_size=280)},
        {"tokenizer": TokenizerConfig(kind="bpe", vocab_size=281, individual_digits=True)},
    ],
)
def test_another_text_split_or_tokenizer_is_prepared_beside_it(tmp_path: Path, changed: Any) -> None:
    prepare(tmp_path, tokenizer=TokenizerConfig(kind="bpe", vocab_size=281))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    prepare(tmp_path, **{"tokenizer": TokenizerConfig(kind="bpe", vocab_size=281), **changed})
    assert len(folders(tmp_path)) == 2
    assert {p: p.read_bytes() for p in before} == before


def test_settings_that_change_no_token_share_a_folder(tmp_path: Path) -> None:
    prepare(tmp_path, context_length=8, batch_size=1)
    prepare(tmp_path, context_length=4, tokenizer=TokenizerConfig(vocab_size=300))
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.npy", b"GGUF", r"val\.npy is damaged: its sha256 is"),
        ("train.npy", None, r"No such file .*train\.npy"),
        ("val.json", b"{", r"val\.json is damaged"),
        ("val.json", b"[" * 100_000, r"val\.json is damaged"),
        ("train.json", None, r"No such file .*train\.json"),
        ("tokenizer.json", b"{", "tokenizer.json is damaged"),
        ("tokenizer.json", b"[" * 100_000, "tokenizer.json is damaged"),
        ("tokenizer.json", b'{"kind": "byte"}', "has vocab_size .*, expected 256"),
        ("tokenizer.json", b'{"kind": "none"}', "tokenizer.json is damaged: .* 'none' is unknown"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer.json is damaged"),
    ],
)
def test_damage_is_one_line_and_nothing_is_overwritten(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    prepare(tmp_path)
    (folder,) = folders(tmp_path)
    path = tmp_path / "tokens" / folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"{message}.*; remove the folder .*{folder} to prepare it again"
    ) as error:
        prepare(tmp_path)
    assert "\n" not in str(error.value)
    assert not path.exists() if content is None else path.read_bytes() == content


def test_a_tokenizer_of_other_tokens_is_noticed(tmp_path: Path) -> None:
    """The vocabulary size is the same, but the sha256 differs."""
    prepare(tmp_path)
    (folder,) = folders(tmp_path)
    path = tmp_path / "tokens" / folder / "tokenizer.json"
    path.write_text(path.read_text().replace("T", "U"))
    with pytest.raises(ValueError, match="has tokenizer_sha256"):
        prepare(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_preparation_leaves_nothing_and_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(self: CharacterTokenizer, chunks: Any, **_: Any) -> Iterator[list[int]]:
        for chunk in chunks:
            yield self.encode(chunk)
            raise error("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(CharacterTokenizer, "encode_chunks", interrupted)
        with pytest.raises(error):
            prepare(tmp_path)
    assert [p.name for p in (tmp_path / "tokens").iterdir() if not p.name.endswith(".lock")] == []
    assert len(prepare(tmp_path).parts["train"]) == part_bounds(len(TEXT), TokenCorpusConfig())["train"][1]


def test_a_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    corpus = prepare(tmp_path)
    (folder,) = folders(tmp_path)
    left = tmp_path / "tokens" / f".{folder}-0123"
    (tmp_path / "tokens" / folder).rename(left)
    again = prepare(tmp_path)
    assert np.array_equal(again.parts["train"], corpus.parts["train"])
    assert not left.exists()


def test_an_older_layout_is_kept_and_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(token_preparation, "_LAYOUT", 1)
        prepare(tmp_path)
    (old,) = folders(tmp_path)
    prepare(tmp_path)
    assert len(folders(tmp_path)) == 2
    assert old in folders(tmp_path)


def test_an_unwritable_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^cannot write .*file/tokens/test-\w+: Not a directory$"):
        prepare(tmp_path / "file")


def test_a_full_disk_names_the_file_and_leaves_none(
    tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    file_size_limit(100_000)
    with pytest.raises(RunError, match=r"^cannot write .*/tokens/test-\w+/train\.npy: File too large$"):
        prepare(tmp_path, "ab" * 100_000)
    assert [path.name for path in tmp_path.rglob("*") if path.suffix != ".lock"] == ["tokens"]


def test_two_processes_at_once_prepare_once(tmp_path: Path) -> None:
    program = f"""
import time
from datamodules.text import token_preparation as p
from datamodules.text.text_source import TextInMemory
from datamodules.configs.token_corpus import TokenCorpusConfig
whole = p._prepare
def slow(*arguments):
    print("prepares", flush=True)
    time.sleep(0.5)
    whole(*arguments)
p._prepare = slow
print("ready", flush=True)
input()
corpus = p.prepare_corpus(TextInMemory({TEXT!r}), TokenCorpusConfig(root={str(tmp_path)!r}), name="test")
print(len(corpus.parts["train"]))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(outputs).count("prepares") == 1
    assert len({output.split()[-1] for output in outputs}) == 1


def test_bytes_per_target_counts_predicted_tokens() -> None:
    text = "aé€" * 7
    characters = CharacterTokenizer.of([text])
    ids = np.array(characters.encode(text), dtype=np.uint16)
    assert bytes_per_target(ids, characters) == pytest.approx((len(text.encode()) - 1) / (len(text) - 1))
    assert bytes_per_target(np.frombuffer(text.encode(), np.uint8), ByteTokenizer()) == 1
    pairs = BytePairTokenizer(
        [*train_byte_pairs([text], 258).tokens, "<|end|>"], [], special_tokens=["<|end|>"]
    )
    ids = np.array([97, 258, 256, 258], dtype=np.uint16)
    assert bytes_per_target(ids, pairs) == pytest.approx(len(pairs.token_bytes(256)) / 3)


def test_bytes_per_target_is_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "aé€" * 50
    tokenizer = CharacterTokenizer.of([text])
    ids = np.array(tokenizer.encode(text), dtype=np.uint16)
    whole = bytes_per_target(ids, tokenizer)
    monkeypatch.setattr(token_preparation, "_BLOCK", 7)
    assert bytes_per_target(ids, tokenizer) == whole


@pytest.mark.parametrize("implementation", ["library", "by_hand"])
def test_special_tokens_of_the_config_are_one_token_each(tmp_path: Path, implementation: Any) -> None:
    """They split the text for learning, and other settings of a text keep their folder."""
    settings = TokenizerConfig(
        kind="bpe", vocab_size=270, implementation=implementation, special_tokens=["<|end|>"]
    )
    text = TEXT.replace("\n", "<|end|>")
    corpus = prepare(tmp_path, text, settings)
    (end,) = corpus.tokenizer.special_tokens.values()
    counts = [int((part == end).sum()) for part in corpus.parts.values()]
    assert sum(counts) == 20
    assert corpus.tokenizer.vocab_size == 270


def test_a_given_tokenizer_replaces_the_one_of_the_config(tmp_path: Path) -> None:
    config = TokenCorpusConfig(root=str(tmp_path), tokenizer=TokenizerConfig(kind="character"))
    first = prepare_corpus(TextInMemory(TEXT), config, name="test")
    second = prepare_corpus(TextInMemory(TEXT), config, name="test", tokenizer=ByteTokenizer())
    assert first.tokenizer.vocab_size < second.tokenizer.vocab_size == 256
    assert len(folders(tmp_path)) == 2
