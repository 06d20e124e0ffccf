"""Define the errors that a user can cause.

Each message states what was found, where, what was expected and what to do. The command line prints it as one line,
without a traceback, and exits with `exit_code`.
"""

import errno
import os


class FastDCError(Exception):
    """Base of every error that fastdc raises on purpose."""

    exit_code = 2


class SourceError(FastDCError):
    """A folder or archive of images cannot be used (missing, empty, unreadable image, bad classes)."""


class OutputError(FastDCError):
    """A result cannot be written (exists already, read-only folder, disk full, another writer at work)."""


class BetonError(FastDCError):
    """A `.beton` file is truncated, damaged or not a beton of images and labels."""


class ManifestError(FastDCError):
    """A manifest is missing, damaged, or belongs to another beton."""


class LoaderError(FastDCError):
    """A batch cannot be made: undecodable sample, index out of range, failing stage, no samples."""


class ConfigError(FastDCError):
    """A setting, name or configuration file is unknown or out of range."""


class MethodError(FastDCError):
    """A compression method cannot serve the request (IPC too large, bad scores, missing class)."""


class TeacherError(MethodError):
    """A teacher exists, but its outputs or its image size do not fit the data set."""


class StoreError(FastDCError):
    """The result store cannot be opened (not SQLite, newer schema, damaged)."""


class BundleError(FastDCError):
    """A bundle of results is damaged, unsafe, of a newer version, or no bundle at all."""


class CheckpointError(FastDCError):
    """A checkpoint is damaged or belongs to another run; training can start over without it."""


class DivergedError(FastDCError):
    """Training reached a loss that is NaN or infinite."""

    exit_code = 1


class WorkerError(FastDCError):
    """A worker process or host of a sweep cannot be started, or was lost."""

    exit_code = 1


MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    # cuBLAS, cuDNN or cuSOLVER without room for a workspace
    "_alloc_failed",
    "_allocation_failed",
)
"""Words of torch's messages about too little memory, in lower case."""

_LIKELY_MEMORY_WORDS = ("cublas_status_not_initialized", "find a valid cudnn algorithm", "unable to find an engine")
"""Words of messages that mostly mean too little memory: for a cuBLAS handle, or for any algorithm's workspace.

torch skips algorithms of cuDNN for which memory is too small, and reports only that none is left. Sources:
aten/src/ATen/native/cudnn/Conv_v7.cpp and Conv_v8.cpp ("GET was unable ...", with cudnn.benchmark "FIND was unable").
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means, at least most likely, that the machine's or the GPU's memory is too small.

    torch has an exception class for its own CUDA memory only. Libraries and the CPU give a text.
    """
    return names_memory(error) or (isinstance(error, RuntimeError) and has_words(error, _LIKELY_MEMORY_WORDS))


def names_memory(error: BaseException) -> bool:
    """Return whether an error itself states that the memory is too small."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and has_words(error, MEMORY_WORDS))


def has_words(error: BaseException, words: tuple[str, ...]) -> bool:
    """Return whether the text of an error has one of the words, which are given in lower case."""
    text = str(error).lower()
    return any(word in text for word in words)


def is_disk_full(error: BaseException) -> bool:
    """Return whether the disk is full, the quota is used up, or the file size limit is reached."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(place: object, error: OSError) -> OutputError:
    """Return the error for a full disk at `place`, such as the path that was written."""
    return OutputError(f"{place}: disk full ({error.strerror}); free space and run again")


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit code for an error that a user can mend; None for any other error."""
    if isinstance(error, FastDCError):
        return str(error), error.exit_code
    if not isinstance(error, OSError):
        return None
    place = "output" if error.filename is None else os.fsdecode(error.filename)
    if is_disk_full(error):
        return str(disk_full(place, error)), OutputError.exit_code
    return None if error.filename is None else (f"{place}: {error.strerror}; check path and permissions", 2)
