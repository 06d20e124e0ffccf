"""Whether FFCV can be used here."""

import functools
import importlib
import importlib.util


@functools.cache
def ffcv_problem() -> str | None:
    """Why FFCV cannot be used, with what to do about it; None when it can. Imports FFCV (about a second) to know."""
    if importlib.util.find_spec("ffcv") is None:
        return "ffcv is not installed; pip install 'fastdc[ffcv]'"
    try:
        importlib.import_module("fastdc.loader.ffcv_pipeline")
    except (ImportError, OSError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        return f"ffcv is installed but does not load ({reason}); reinstall it with OpenCV and libturbojpeg headers"
    return None
