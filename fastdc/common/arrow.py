"""Import pyarrow on first use."""

from types import ModuleType

from fastdc.common.errors import FastDCError
from fastdc.common.extras import install_extra


def import_pyarrow(task: str, error: type[FastDCError]) -> ModuleType:
    """Return pyarrow, with `pyarrow.parquet` imported.

    Args:
        task: what needs it, for the message ("photos: reading parquet").
        error: class of the error raised.

    Raises:
        FastDCError: pyarrow is not installed; of class `error`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise error(
            f"{task} needs pyarrow, which is not installed: pip install pyarrow, or {install_extra('hf')}"
        ) from missing
    return pyarrow  # type: ignore[no-any-return]
