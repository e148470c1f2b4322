"""Texts from files: order, encoding, and reading in pieces."""

import hashlib
from pathlib import Path

import pytest

from datamodules.text import text_source
from datamodules.text.text_source import TextFiles, TextInMemory, cut, summarize


def text(source: TextFiles | TextInMemory) -> str:
    return "".join(source.chunks())


def test_a_folder_is_all_its_files_by_path(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/b/c", "a.txt", ".hidden", ".git/x", "a/.cache/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"<{name}>")
    assert text(TextFiles.under(tmp_path)) == "<a/b/c>\n<a/z.md>\n<a.txt>\n<b.txt>"
    assert text(TextFiles.under(tmp_path / "a.txt")) == "<a.txt>"
    assert text(TextFiles.under(tmp_path / ".hidden")) == "<.hidden>"


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1 << 18])
def test_any_chunks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(text_source, "_CHUNK", chunk)
    written = "\ufeffaé€\U0001f600\r\n\x00e\u0301 \u2028\n" * 3
    (tmp_path / "t").write_bytes(written.encode())
    assert text(TextFiles.under(tmp_path / "t")) == written[1:]  # without the byte order mark
    assert text(TextInMemory(written)) == written


def test_links_are_followed_once(tmp_path: Path) -> None:
    corpus, other = tmp_path / "corpus", tmp_path / "other"
    for path in (corpus / "a.txt", other / "sub" / "b.txt"):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    (corpus / "linked").symlink_to(other)
    (corpus / "again").symlink_to(corpus / "linked")
    (other / "loop").symlink_to(corpus)
    (other / "sub" / "self").symlink_to(".")
    (corpus / "c.txt").symlink_to(other / "sub" / "b.txt")
    found = [path.relative_to(corpus).as_posix() for path in TextFiles.under(corpus).paths]
    assert found == ["a.txt", "again/sub/b.txt", "c.txt"]


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".hidden").symlink_to(tmp_path / "nowhere")
    assert text(TextFiles.under(tmp_path)) == "a"
    for target in ("nowhere", "b.txt"):
        (tmp_path / "b.txt").symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=r"b\.txt is a broken link"):
            TextFiles.under(tmp_path)
        (tmp_path / "b.txt").unlink()


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"a\.txt is a Git LFS pointer"):
        text(TextFiles.under(tmp_path))


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 1 << 18])
@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"abc\xff", 3, "invalid start byte"),
        (b"\x80", 0, "invalid start byte"),
        ("é".encode("latin-1") + b" fran\xc3\xa7ais", 0, "invalid continuation byte"),
        ("aé€".encode() + b"\xe2\x28\xa1", 6, "invalid continuation byte"),
        ("aé€\U0001f600".encode()[:-1], 6, "unexpected end of data"),
        ("x".encode("utf-16"), 0, "invalid start byte"),
        (b"ok\xed\xa0\x80", 2, "invalid continuation byte"),
    ],
)
def test_invalid_utf8_is_reported_with_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, data: bytes, offset: int, reason: str
) -> None:
    with pytest.raises(UnicodeDecodeError) as whole:
        data.decode()
    assert whole.value.start == offset
    monkeypatch.setattr(text_source, "_CHUNK", chunk)
    (tmp_path / "good").write_text("fine")
    (tmp_path / "wrong").write_bytes(data)
    with pytest.raises(ValueError, match=f"wrong is not UTF-8: {reason} at byte {offset}; convert") as error:
        summarize(TextFiles.under(tmp_path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file or folder .*nothing"):
        TextFiles.under(tmp_path / "nothing")
    (tmp_path / ".only").write_text("hidden")
    with pytest.raises(ValueError, match="has no files"):
        TextFiles.under(tmp_path)
    gone = TextFiles((tmp_path / "gone",))
    with pytest.raises(ValueError, match="gone can't be read: No such file"):
        text(gone)


def test_a_summary_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = "é€ text\r\n".encode() * 1000
    (tmp_path / "t").write_bytes(data)
    summary = summarize(TextFiles.under(tmp_path / "t"))
    assert summary.sha256 == hashlib.sha256(data).hexdigest()
    assert summary.characters == len(data.decode())


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 26), (3, 17), (25, 26), (13, 99), (30, 40)])
def test_a_part_is_a_slice(size: int, start: int, stop: int) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    chunks = (letters[i : i + size] for i in range(0, 26, size))
    assert "".join(cut(chunks, start, stop)) == letters[start:stop]


def test_cut_reads_no_further_than_needed() -> None:
    def chunks() -> object:
        yield "abc"
        yield "def"
        raise AssertionError("read on")

    assert "".join(cut(chunks(), 1, 5)) == "bcde"  # type: ignore[arg-type]
