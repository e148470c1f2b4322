"""Find the checkpoint that a command line names, without importing torch."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.training.quick_imports import import_lightning

_BY_PREFERENCE = ("best.ckpt", "last.ckpt")


def find_checkpoint(argument: str | Path, *, names: Sequence[str] = ()) -> Path:
    """Find a checkpoint by its file or its run directory (then the best one).

    `names` are models that are allowed too; the error message suggests a similar name.

    Raises:
        UserError: There is no such checkpoint.
    """
    path = Path(argument)
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = [folder / name for name in _BY_PREFERENCE if (folder / name).is_file()]
        if not found and (path / "adapter_config.json").is_file():
            raise UserError(
                f"{path} holds an adapter, not a checkpoint; name its run directory, or use sample or "
                "evaluate --text"
            )
        if not found:
            raise UserError(f"there is no checkpoint in {folder}{_newest_run(path)}")
        path = found[0]
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a device or a pipe, not a checkpoint file")
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}{similar(path, names)}")
    return path


def open_checkpoint(argument: str | Path, *, names: Sequence[str] = ()) -> tuple[Path, dict[str, Any]]:
    """Find a checkpoint as `find_checkpoint` does, and load it.

    Raises:
        UserError: The file is missing, damaged or not a checkpoint of the suite.
    """
    path = find_checkpoint(argument, names=names)
    import_lightning()
    from experiments.training import checkpoint

    return path, checkpoint.load(path)


def _newest_run(folder: Path) -> str:
    """Name the newest run inside a folder that is not a run itself, as runs/NAME is."""
    found = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/checkpoints/*.ckpt")]
    if not found:
        return ""
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return f"; the newest run in it is {newest.parents[1]}"


def similar(path: Path, names: Sequence[str] = ()) -> str:
    """Suggest an existing model or path with a name close to a missing path."""
    if close := difflib.get_close_matches(str(path), names, n=1):
        return f" (did you mean {close[0]}?)"
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    existing = sorted(other.name for other in missing.parent.iterdir() if not other.name.startswith("."))
    close = [
        *difflib.get_close_matches(missing.name, existing, n=1),
        *(name for name in existing if len(missing.name) > 1 and missing.name.lower() in name.lower()),
    ]
    return f" (did you mean {missing.parent / close[0]}?)" if close else ""
