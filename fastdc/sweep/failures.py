"""Classify failed runs by cause: the method or the machine. Only for the machine's faults does another try help."""

from typing import Literal

from fastdc.common.errors import (
    BetonError,
    CheckpointError,
    DivergedError,
    FastDCError,
    LoaderError,
    ManifestError,
    OutputError,
    SourceError,
    StoreError,
    is_disk_full,
)

Failure = Literal["method", "infrastructure", "diverged"]
"""Class of a failure.

`method`: the method raised, or cannot serve the request; it would do so again. `infrastructure`: memory, disk, a file,
the device, a process that crashed or was killed. `diverged`: a loss that is not a finite number.
"""

FILES = (BetonError, ManifestError, LoaderError, CheckpointError, OutputError, StoreError, SourceError)
OF_THE_MACHINE = (OSError, MemoryError, EOFError)
WORDS = ("out of memory", "allocate memory", "cuda error", "cudnn error", "cublas", "nccl", "driver")


def classify(error: BaseException) -> Failure:
    """Return the class of the error that ended a run.

    Its causes count as well: a method's error raised from a full disk is a fault of the machine.
    """
    if isinstance(error, DivergedError):
        return "diverged"
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:  # a chain of causes may be circular
        seen.add(id(cause))
        if _is_infrastructure(cause):
            return "infrastructure"
        cause = cause.__cause__
    return "method"


def ends_sweep(error: BaseException) -> bool:
    """Return whether the error would end every other run too, because the store or the disk is at fault."""
    return isinstance(error, OutputError | StoreError) or is_disk_full(error)


def loses_device(error: BaseException) -> bool:
    """Return whether CUDA no longer works in this process.

    A CUDA error lasts until the process ends, except for one about too little memory.
    """
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda error" in text and "out of memory" not in text


def _is_infrastructure(error: BaseException) -> bool:
    if isinstance(error, FILES):
        return True
    if isinstance(error, FastDCError):  # only the message shows that a method ran out of the device's memory
        return any(words in str(error).lower() for words in WORDS[:2])
    if isinstance(error, OF_THE_MACHINE):
        return not isinstance(error, FileExistsError)
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)
