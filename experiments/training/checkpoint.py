"""Write checkpoints in one step, and load them as plain data without running any code.

A checkpoint is a dictionary of tensors, numbers, strings, lists and dictionaries. It holds Lightning's
entries (`state_dict`, `optimizer_states`, `loops` …), `config` (the whole resolved config) and `info` (the
description of the data). The file alone is enough to rebuild the model.
"""

import contextlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from lightning.fabric.plugins import CheckpointIO

from datamodules.assets.ordinary_files import check_ordinary
from experiments.config.moved_keys import migrate
from experiments.errors import RunError, UserError

REQUIRED = ("config", "info", "state_dict")

_HYPERPARAMETERS = (
    LightningModule.CHECKPOINT_HYPER_PARAMS_KEY,
    LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY,
)


class CheckpointError(UserError):
    """A checkpoint file is missing, damaged or not one of the suite."""


class UnreadableError(UserError):
    """A checkpoint cannot be read now: no permission, a failing disk, no memory. Its content may be good."""


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's reader and writer of checkpoints: writes by renaming, reads plain data only.

    Args:
        held: Checkpoints that are in memory already, by file. Each is returned once instead of being read.
    """

    def __init__(self, held: Mapping[Path, dict[str, Any]] | None = None) -> None:
        self._held = dict(held or {})

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write under a temporary name, then rename, so that a kill leaves the old file or the new one.

        What a plain module saved with `save_hyperparameters` is left out: the config says it, as plain data.
        """
        checkpoint = {key: value for key, value in checkpoint.items() if key not in _HYPERPARAMETERS}
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except (OSError, RuntimeError) as error:
            # After a failed write, torch.save also fails to close the archive and raises that error instead.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise RunError(f"cannot write the checkpoint {target}: {cause.strerror or cause}") from error
        finally:
            with contextlib.suppress(OSError):  # it must not hide the first error
                temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint of the suite; see `load`."""
        held = self._held.pop(Path(path), None)
        return load(Path(path)) if held is None else held

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint file."""
        Path(path).unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Return whether there is a file of this name, in whatever state.

    Raises:
        UnreadableError: The system cannot tell, for example because the folder is not readable.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}; nothing was changed") from None
    return True


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, after checking each entry's checksum.

    Raises:
        CheckpointError: The file is missing, truncated, damaged, not a checkpoint, or not one of the suite.
        UnreadableError: The system cannot read the file, which says nothing about its content.
    """
    if not exists(path):
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        check_ordinary(path)
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"the checkpoint {path} is damaged at {damaged}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path} is not a checkpoint, or it is truncated") from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path} holds more than plain data, so it is not loaded") from None
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}; nothing was changed") from None
    except MemoryError:
        raise UnreadableError(f"not enough memory to read {path}; nothing was changed") from None
    except Exception as error:  # whatever a reader of zip, pickle or tensors says about damaged bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allocate memory" in str(error):  # PyTorch's error is a RuntimeError
            raise UnreadableError(f"not enough memory to read {path}; nothing was changed") from None
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason}") from None
    missing = [k for k in REQUIRED if not isinstance(checkpoint, dict) or k not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of this suite: it lacks {', '.join(missing)}")
    if isinstance(checkpoint["config"], Mapping):
        checkpoint["config"] = migrate(checkpoint["config"])
    return checkpoint
