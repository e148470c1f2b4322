"""Sources of a corpus's text: UTF-8 files, read in pieces."""

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datamodules.assets.ordinary_files import check_ordinary, visible_files

_CHUNK = 1 << 18


class TextSource(Protocol):
    """A text that can be read several times with the same result."""

    def chunks(self) -> Iterator[str]:
        """Yield the text in pieces of moderate size."""


@dataclass(frozen=True)
class TextInMemory:
    """A text that is already in memory."""

    text: str

    def chunks(self) -> Iterator[str]:
        """Yield the text in pieces."""
        for start in range(0, len(self.text), _CHUNK):
            yield self.text[start : start + _CHUNK]


@dataclass(frozen=True)
class JoinedTexts:
    """Several texts, one directly after the other."""

    sources: tuple[TextSource, ...]

    def chunks(self) -> Iterator[str]:
        """Yield the texts in pieces."""
        for source in self.sources:
            yield from source.chunks()


@dataclass(frozen=True)
class RotatedText:
    """A text that begins in its middle: its characters from `start` on, then those before."""

    source: TextSource
    start: int
    length: int  # number of characters of the text

    def chunks(self) -> Iterator[str]:
        """Yield the text in pieces."""
        yield from cut(self.source.chunks(), self.start, self.length)
        yield from cut(self.source.chunks(), 0, self.start)


@dataclass(frozen=True)
class TextFiles:
    """UTF-8 files, joined in their order by line feeds and never completely in memory."""

    paths: tuple[Path, ...]

    @classmethod
    def under(cls, path: Path) -> "TextFiles":
        """Take a file, or all files of a folder and its subfolders in the order of their paths.

        Links to files and folders are followed; a folder is read once, even if links lead to it again. Hidden
        files and folders, which start with a dot, are skipped.

        Raises:
            ValueError: The path does not exist, the folder has no files, a subfolder can't be read, or a link
                is broken.
        """
        if path.is_file():
            return cls((path,))
        if not path.is_dir():
            raise ValueError(f"there is no file or folder {path}")
        found = sorted(visible_files(path), key=lambda file: file.relative_to(path))
        if not found:
            raise ValueError(f"the folder {path} has no files")
        return cls(tuple(found))

    def chunks(self) -> Iterator[str]:
        """Yield the text in pieces.

        Raises:
            ValueError: A file can't be read, is not UTF-8, or is a Git LFS pointer. The message names the
                file and the offset of the first invalid byte.
        """
        for number, path in enumerate(self.paths):
            if number:
                yield "\n"
            yield from _decoded(path)


def _decoded(path: Path) -> Iterator[str]:
    """Yield the text of a file without a byte order mark."""
    check_ordinary(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0  # of the first byte that is not decoded yet
    is_start = True
    try:
        with path.open("rb") as file:
            while True:
                block = file.read(_CHUNK)
                pending = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{path} is not UTF-8: {error.reason} at byte {offset + error.start}; "
                        "convert the file, or leave it out"
                    ) from None
                offset += pending + len(block) - len(decoder.getstate()[0])
                if text:
                    yield text.removeprefix("\ufeff") if is_start else text
                    is_start = False
                if not block:
                    return
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class TextSummary:
    """Properties of a text that need one pass over it."""

    sha256: str  # hexadecimal sha256 of its UTF-8 bytes
    characters: int


def summarize(source: TextSource) -> TextSummary:
    """Read a text once and summarize it."""
    digest, characters = hashlib.sha256(), 0
    for chunk in source.chunks():
        digest.update(chunk.encode())
        characters += len(chunk)
    return TextSummary(digest.hexdigest(), characters)


def cut(chunks: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """Yield the characters `start` … `stop` − 1 of a text in pieces; read no further than needed."""
    position = 0
    for chunk in chunks:
        piece = chunk[max(0, start - position) : max(0, stop - position)]
        if piece:
            yield piece
        position += len(chunk)
        if position >= stop:
            return
