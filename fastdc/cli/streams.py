"""Keep the standard streams usable when they are closed, full, or read by a program that ends early."""

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any


def prepare_streams() -> None:
    """Make stdout and stderr survive closed descriptors, unknown characters and an early end of the reader."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?" instead of raising
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout is sys.__stdout__:  # not the one from `_open_closed`
        sys.stdout = outlive_reader(sys.stdout)


def _open_closed() -> None:
    """Replace every closed standard stream (`>&-`) by one to /dev/null.

    Otherwise the next file that is opened gets the descriptor of stdout, and library output corrupts that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX assigns the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (stays open as long as the process lives)


class _LeavablePipe(FileIO):
    """Raw stream that drops its output once the reader has closed the pipe."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def outlive_reader(stream: TextIOWrapper) -> TextIOWrapper:
    """Return a replacement for stdout whose reader may exit early (`| head -1`).

    The command then finishes as if all output had been read, with its own exit code.
    """
    raw = _LeavablePipe(stream.fileno(), "wb", closefd=False)
    return TextIOWrapper(BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering)


def flush_streams() -> None:
    """Flush stdout and stderr, or drop their content if that fails: the interpreter would print a traceback at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
