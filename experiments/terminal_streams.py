"""Make the standard streams safe for characters that they lack, and for a terminal that goes away."""

import io
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO


class _Lasting(io.RawIOBase):
    """A raw stream that drops its output once writing has failed, as for a closed terminal or pipe."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return int(self.raw.write(data) or 0)
        # Every later writer to this descriptor, child processes included, has to last too.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.raw.fileno())
        os.close(nowhere)
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.raw.fileno())

    def isatty(self) -> bool:
        return bool(self.raw.isatty())


def make_safe() -> None:
    """Replace characters that the output's encoding lacks, and open streams that are closed.

    A stream that is missing (`>&-`) gets the null device. Otherwise the next file to be opened would take its
    descriptor.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def outlive_terminal() -> None:
    """Let a run go on when its terminal closes or nobody reads its output any more."""
    make_safe()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, lasting(stream))
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    in_main = threading.current_thread() is threading.main_thread()
    if hangup is not None and in_main and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, signal.SIG_IGN)


def lasting(stream: TextIO) -> TextIO:
    """Return a text stream that writes to the same place until that fails, and then drops its output."""
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)  # with `python -u` there is no buffer in between
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(raw)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
        write_through=True,
    )
