"""Detection of a usable FFCV."""

import functools
import importlib
import importlib.util


@functools.cache
def ffcv_problem() -> str | None:
    """Return why FFCV cannot be used and what to do about it; None if it can be used.

    It has to import FFCV, which takes about a second.
    """
    if importlib.util.find_spec("ffcv") is None:
        return "ffcv is not installed; pip install 'fastdc[ffcv]'"
    try:
        importlib.import_module("fastdc.loader.engines.ffcv_pipeline")
    except (ImportError, OSError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        return f"ffcv is installed but does not load ({reason}); reinstall it with OpenCV and libturbojpeg headers"
    return None
