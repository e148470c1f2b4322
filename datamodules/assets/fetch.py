"""Fetch the files of an asset from its sources and verify each by its sha256."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from datamodules.assets.asset_catalog import ASSETS, Asset
from datamodules.assets.asset_sources import LocalFolder, Member, Source, SourceError, SourceUnusableError
from datamodules.failures import RunError, writing

_PARTIAL = ".partial-"
_DISK_IS_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


class AssetError(RunError):
    """An asset can't be fetched; the message lists every source, and what to do by hand."""


def fetch(name: str, root: Path | str) -> Path:
    """Make sure that an asset's files are present and correct; return their folder `root/name`.

    Correct files are never fetched again, not even after an attempt that failed half-way. If two processes
    call at once, one fetches and the other waits.

    Args:
        name: A key of `ASSETS`.
        root: The data root; created if missing.

    Raises:
        AssetError: No source has the files.
        RunError: A file can't be written.
        ValueError: `name` is unknown.
    """
    if name not in ASSETS:
        raise ValueError(f"unknown asset {name!r}; known assets: {', '.join(sorted(ASSETS))}")
    return fetch_asset(name, ASSETS[name], root)


def fetch_asset(name: str, asset: Asset, root: Path | str) -> Path:
    """Fetch an asset that need not be in `ASSETS`; see `fetch`."""
    root = Path(root)
    folder = root / name
    lock = root / f".{name}.lock"
    if not _missing(asset, folder):
        if _remains(folder):  # of a process that was killed after its last file, or that is about to end
            with contextlib.suppress(OSError), FileLock(lock, timeout=0):
                _remove_remains(folder)
        return folder
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            _fetch_missing(name, asset, root)
    return folder


def _remains(folder: Path) -> list[Path]:
    """Return the temporary folders of processes that fetch, or that were killed while they did."""
    return list(folder.glob(f"{_PARTIAL}*"))


def _remove_remains(folder: Path) -> None:
    """Remove the temporary folders; the caller holds the lock, so no process uses them."""
    for stale in _remains(folder):
        shutil.rmtree(stale, ignore_errors=True)


def _missing(asset: Asset, folder: Path) -> list[Member]:
    return [m for m in asset.members if _fault(folder / m.name, m) is not None]


def _fault(path: Path, member: Member) -> str | None:
    """Return what is wrong with a file, or None."""
    if not path.is_file():
        return "not there"
    if (size := path.stat().st_size) != member.size:
        at_least = "at least " if size > member.size else ""  # a download stops one byte beyond the size
        return f"has {at_least}{size} bytes, expected {member.size}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == member.sha256 else f"sha256 is {digest}, expected {member.sha256}"


def _fetch_missing(name: str, asset: Asset, root: Path) -> None:
    """Try the sources in order until no member is missing; the caller holds the lock."""
    root = root.resolve()  # package clients run in another folder, where a relative path would be wrong
    folder = root / name
    _remove_remains(folder)
    missing = _missing(asset, folder)
    # Files that a user put there by hand may be compressed, or be in the data root itself.
    by_hand = (LocalFolder(str(folder.resolve())), LocalFolder(str(root.resolve())))
    failures: list[str] = []
    for source in by_hand + asset.sources:
        if missing:
            missing, reasons = _try_source(source, missing, folder, root)
            failures += [f"  {source}: {reason}" for reason in reasons]
    if missing:
        lines = [f"can't fetch {name} ({', '.join(m.name for m in missing)}) from any source:"]
        lines += failures
        lines += [f"Put these files into {folder.resolve()} by hand, plain or compressed as .gz:"]
        lines += [f"  {m.name}  {m.size} bytes  sha256 {m.sha256}" for m in missing]
        raise AssetError("\n".join(lines))


def _try_source(
    source: Source, wanted: list[Member], folder: Path, root: Path
) -> tuple[list[Member], list[str]]:
    """Fetch the wanted members from one source; return those still missing, and the reasons."""
    missing: list[Member] = []
    reasons: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder, ignore_cleanup_errors=True) as scratch:
        for position, member in enumerate(wanted):
            try:
                arrived = source.deliver(member, Path(scratch), root)
                fault = _fault(arrived, member)
            except SourceError as error:
                for reason in _DISK_IS_FULL:
                    if reason.lower() in str(error).lower():  # the next source could not write either
                        raise RunError(f"cannot write {folder / member.name}: {reason}") from error
                if isinstance(error, SourceUnusableError):
                    missing += wanted[position:]
                    reasons.setdefault(str(error), [])
                    break
                fault = str(error)
            if fault is None:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(arrived, target)
            else:
                missing.append(member)
                reasons.setdefault(fault, []).append(member.name)
    some = {why: f"{', '.join(names)}: " for why, names in reasons.items() if 0 < len(names) < len(wanted)}
    return missing, [some.get(why, "") + why for why in reasons]
