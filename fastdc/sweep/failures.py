"""Classify failed runs by cause: the method or the machine. Only for the machine's faults does another try help."""

from collections.abc import Iterator
from typing import Literal

from fastdc.common.errors import (
    MEMORY_WORDS,
    BetonError,
    CheckpointError,
    DivergedError,
    FastDCError,
    LoaderError,
    ManifestError,
    OutputError,
    SourceError,
    StoreError,
    has_words,
    is_disk_full,
    is_out_of_memory,
)

Failure = Literal["method", "infrastructure", "diverged"]
"""Class of a failure.

`method`: the method raised, or cannot serve the request; it would do so again. `infrastructure`: memory, disk, a file,
the device, a process that crashed or was killed. `diverged`: a loss that is not a finite number.
"""

FILES = (BetonError, ManifestError, LoaderError, CheckpointError, OutputError, StoreError, SourceError)
OF_THE_MACHINE = (OSError, MemoryError, EOFError)
LOST_WORDS = (
    "cuda error",
    "cuda driver error",
    "triton error [cuda]",
    "cudnn_status_execution_failed",
    "cublas_status_execution_failed",
    "no cuda gpus are available",
    "error from cudagetdevicecount",
)
DEVICE_WORDS = (*LOST_WORDS, "cudnn error", "cublas", "nccl", "nvml", "nvrtc", "driver")


def classify(error: BaseException) -> Failure:
    """Return the class of the error that ended a run.

    Its causes count as well: a method's error raised from a full disk is a fault of the machine.
    """
    if isinstance(error, DivergedError):
        return "diverged"
    return "infrastructure" if any(map(_is_infrastructure, _with_causes(error))) else "method"


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:  # a chain of causes may be circular
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def ends_sweep(error: BaseException) -> bool:
    """Return whether the error would end every other run too, because the store or the disk is at fault."""
    return isinstance(error, OutputError | StoreError) or is_disk_full(error)


def loses_device(error: BaseException) -> bool:
    """Return whether CUDA no longer works in this process.

    A CUDA error lasts until the process ends, except for one about too little memory. So does a kernel of cuDNN or
    cuBLAS that failed while it ran. The cause counts as well, because a method may name it in an error of its own.
    """
    return any(
        isinstance(cause, RuntimeError) and not is_out_of_memory(cause) and has_words(cause, LOST_WORDS)
        for cause in _with_causes(error)
    )


def is_short_of_memory(error: BaseException) -> bool:
    """Return whether the error, or one that it was raised from, means too little memory."""
    return any(map(is_out_of_memory, _with_causes(error)))


def _is_infrastructure(error: BaseException) -> bool:
    if isinstance(error, FILES):
        return True
    if isinstance(error, FastDCError):  # only the message shows that a method ran out of the device's memory
        return has_words(error, MEMORY_WORDS)
    if isinstance(error, OF_THE_MACHINE):
        return not isinstance(error, FileExistsError)
    return is_out_of_memory(error) or (isinstance(error, RuntimeError) and has_words(error, DEVICE_WORDS))
