"""Detection of a usable FFCV, and guards around what its import and its loaders change in the process."""

import functools
import importlib
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import torch

from fastdc.common.extras import install_extra
from fastdc.common.text import one_line
from fastdc.common.threads import prepare_numba

_GLOBALS_LOCK = threading.RLock()


@functools.cache
def ffcv_problem() -> str | None:
    """Return why FFCV cannot be used and what to do about it; None if it can be used.

    It has to import FFCV, which takes about a second.
    """
    if importlib.util.find_spec("ffcv") is None:
        return f"ffcv is not installed; {install_extra('ffcv')}"
    try:
        importlib.import_module("fastdc.loader.engines.ffcv_pipeline")
    except (ImportError, OSError, AttributeError, ValueError) as error:
        reason = one_line(error)
        return f"ffcv is installed but does not load ({reason}); reinstall it with OpenCV and libturbojpeg headers"
    return None


@contextmanager
def kept_thread_counts() -> Iterator[None]:
    """Restore torch's thread count, and numba's for this thread, after the block."""
    prepare_numba()
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Replace one of FFCV's or numba's globals while the block runs; one block at a time."""
    with _GLOBALS_LOCK:
        before = getattr(owner, name)
        setattr(owner, name, value)
        try:
            yield
        finally:
            setattr(owner, name, before)
