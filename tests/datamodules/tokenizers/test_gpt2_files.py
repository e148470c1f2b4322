"""vocab.json and merges.txt against transformers' reader, and malformed files."""

import json
from pathlib import Path

import pytest

from datamodules.tokenizers import BytePairTokenizer, read_gpt2_files, train_byte_pairs

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def trained(hard_texts: list[str]) -> BytePairTokenizer:
    return train_byte_pairs(hard_texts * 2, 500)


@pytest.fixture
def folder(tmp_path: Path, trained: BytePairTokenizer) -> Path:
    tokens = [END, *reversed(trained.tokens)]
    (tmp_path / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    lines = "\n".join(["#version: 0.2", *trained.merges, ""])
    (tmp_path / "merges.txt").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("implementation", ["library", "by_hand"])
def test_ids_are_those_of_transformers(folder: Path, hard_texts: list[str], implementation: str) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    merges = [
        tuple(line.split()) for line in (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    ]
    theirs = transformers.GPT2Tokenizer(vocabulary, merges, unk_token=END, bos_token=END, eos_token=END)
    ours = read_gpt2_files(folder, implementation=implementation)
    assert ours.implementation == implementation
    assert ours.special_tokens == {END: 0}
    for text in hard_texts:
        if END not in text:
            assert ours.decode(ours.encode(text)) == text
    for text in ("Hello world, it's 1984!\n\n  naïve 中文 👍🏽", "a" * 99):
        assert ours.encode(text) == theirs(text)["input_ids"]
    assert ours.encode(f"a{END}b", allow_special=True) == theirs(f"a{END}b")["input_ids"]


def test_windows_line_ends_and_a_missing_version_are_fine(folder: Path) -> None:
    before = read_gpt2_files(folder).to_dict()
    merges = folder / "merges.txt"
    lines = merges.read_text(encoding="utf-8").split("\n")[1:]
    merges.write_bytes("\r\n".join(lines).encode())
    assert read_gpt2_files(folder).to_dict() == before


def test_merges_of_number_signs_are_merges(tmp_path: Path) -> None:
    vocabulary = {"#": 0, "##": 1, "####": 2}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("# #\n## ##\n")
    tokenizer = read_gpt2_files(tmp_path)
    assert type(tokenizer) is not BytePairTokenizer
    assert tokenizer.merges == ["# #", "## ##"]
    assert tokenizer.encode("######") == [2, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", None, r"vocab\.json can't be read: No such file"),
        ("vocab.json", b"{", r"vocab\.json is not JSON: "),
        ("vocab.json", b"[" * 100_000, r"vocab\.json is not JSON: "),
        ("vocab.json", b"[1]", r"vocab\.json must map tokens to whole numbers"),
        ("vocab.json", b'{"a": "0"}', "must map tokens to whole numbers"),
        ("vocab.json", b'{"a": true}', "must map tokens to whole numbers"),
        ("vocab.json", b'{"a": 0, "b": 2}', "must give its 2 tokens the ids 0 … 1, each once"),
        ("vocab.json", b'{"a": 0}', "lacks the token"),
        ("vocab.json", b"\xff", r"vocab\.json is not UTF-8: .* at byte 0"),
        ("merges.txt", None, r"merges\.txt can't be read: No such file"),
        ("merges.txt", b"a b c\n", r"merges\.txt: a merge must be two tokens .* not 'a b c'"),
        ("merges.txt", b"#version: 0.2\nabc\n", r"merges\.txt: a merge must be two tokens .* not 'abc'"),
        ("merges.txt", b"\xc4\xa0 \xff\n", r"merges\.txt is not UTF-8: .* at byte 3"),
    ],
)
def test_a_malformed_file_is_named(folder: Path, name: str, content: bytes | None, message: str) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_gpt2_files(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
