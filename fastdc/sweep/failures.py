"""What a run that failed died of: its method, or the machine. Another try helps against the second alone."""

import errno
from typing import Literal

from fastdc.errors import (
    BetonError,
    CheckpointError,
    DivergedError,
    FastDCError,
    LoaderError,
    ManifestError,
    OutputError,
    SourceError,
    StoreError,
)

Failure = Literal["method", "infrastructure", "diverged"]
"""`method`: it raised, or cannot serve the request; it would do so again. `infrastructure`: memory, disk, a file, the
device, a process that died. `diverged`: a loss that is not a finite number."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FILES = (BetonError, ManifestError, LoaderError, CheckpointError, OutputError, StoreError, SourceError)
OF_THE_MACHINE = (OSError, MemoryError, EOFError)
WORDS = ("out of memory", "allocate memory", "cuda error", "cudnn error", "cublas", "nccl", "driver")


def classify(error: BaseException) -> Failure:
    """The class of what ended a run. Causes count as well: a method's error about a full disk is the disk's."""
    if isinstance(error, DivergedError):
        return "diverged"
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if _is_infrastructure(cause):
            return "infrastructure"
        cause = cause.__cause__
    return "method"


def ends_sweep(error: BaseException) -> bool:
    """Whether it would end every other run too: the store or the disk is at fault."""
    return isinstance(error, OutputError | StoreError) or (isinstance(error, OSError) and error.errno in DISK_FULL)


def loses_device(error: BaseException) -> bool:
    """Whether CUDA works no more in this process: its errors stay, but for that of short memory."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda error" in text and "out of memory" not in text


def _is_infrastructure(error: BaseException) -> bool:
    if isinstance(error, FILES):
        return True
    if isinstance(error, FastDCError):  # a method says by its words that the device's memory was short
        return any(words in str(error).lower() for words in WORDS[:2])
    if isinstance(error, OF_THE_MACHINE):
        return not isinstance(error, FileExistsError)
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)
