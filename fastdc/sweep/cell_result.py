"""Hold how a cell ended: its result, or a failure in words that any process can unpickle."""

import traceback
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastdc.common.errors import DivergedError, FastDCError, explain, is_out_of_memory, names_memory
from fastdc.common.gpu_share import shares_gpu
from fastdc.sweep.failures import Failure, classify, is_short_of_memory


class CellResult(NamedTuple):
    """Hold the result of a finished cell.

    Attributes:
        summary: values that every report reads.
        detail: values that are read only on request.
        leftover: folder of the checkpoint, which is removed once the row is stored.
        provenance: what computed the cell, see `fastdc.sweep.provenance`.
    """

    summary: dict[str, Any]
    detail: dict[str, Any]
    leftover: Path | None = None
    provenance: dict[str, Any] | None = None


class CellFailure(NamedTuple):
    """Describe how a cell failed.

    Attributes:
        outcome: failed or diverged.
        reason: one line for its row.
        failure: class of the failure.
        trace: traceback of an unexpected error.
        provenance: as in `CellResult`; empty for a cell that no process ran to its end.
        short_of_memory: whether the memory was too small, so that another try in the same circumstances fails too.
    """

    outcome: Literal["failed", "diverged"]
    reason: str
    failure: Failure
    trace: str | None = None
    provenance: dict[str, Any] | None = None
    short_of_memory: bool = False


def failure_of(error: Exception) -> CellFailure:
    """Describe an error for a cell's row."""
    trace = None if isinstance(error, FastDCError) else "".join(traceback.format_exception(error))
    outcome: Literal["failed", "diverged"] = "diverged" if isinstance(error, DivergedError) else "failed"
    return CellFailure(
        outcome, describe_error(error), classify(error), trace, short_of_memory=is_short_of_memory(error)
    )


def describe_error(error: BaseException) -> str:
    """Describe an error in one line; name the type of an error that fastdc does not raise itself."""
    known = explain(error)
    text = " ".join((str(error) if known is None else known[0]).split()) or "no message"
    if known is not None:
        return text
    if is_out_of_memory(error):
        likely = "" if names_memory(error) else "probably "
        fewer = ", or let fewer processes share the GPU" if shares_gpu() else ""
        return f"{likely}out of memory ({text[:200]}); lower the protocol's batch_size or the image size{fewer}"
    return f"unexpected {type(error).__name__}: {text[:500]}"
