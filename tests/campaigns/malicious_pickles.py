"""Checkpoints whose pickles try to run code."""

import builtins
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.training.checkpoint import load

CALLS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (os.system, ("touch {marker}",)),
    (os.mkdir, ("{marker}",)),
    (builtins.eval, ("open({marker!r}, 'w')",)),
    (builtins.exec, ("open({marker!r}, 'w')",)),
    (builtins.open, ("{marker}", "w")),
    (subprocess.check_output, ("touch {marker}",)),
    (Path.touch, ("{marker}",)),
)
COUNT = 2 * len(CALLS)


class _Call:
    def __init__(self, function: Any, arguments: tuple[str, ...]) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


def run_code(folder: Path) -> int:
    """Load each checkpoint, and count those that are read or that ran their code."""
    marker, path, ran = folder / "marker", folder / "evil.ckpt", 0
    for function, arguments in CALLS:
        call = _Call(function, tuple(text.format(marker=str(marker)) for text in arguments))
        for content in (call, {"config": {}, "info": {}, "state_dict": {"w": call}}):
            with zipfile.ZipFile(path, "w") as archive:  # the layout of torch.save
                archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
                archive.writestr("archive/version", "3\n")
                archive.writestr("archive/byteorder", "little")
            try:
                load(path)
                refused = False
            except UserError:
                refused = True
            ran += not refused or marker.exists()
    return ran
