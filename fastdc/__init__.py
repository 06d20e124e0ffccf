"""fastdc: large-scale dataset compression under one fair, fast, repeatable benchmark.

Each public name is imported on first use, so torch loads only where it is needed:

- `write_beton`, `verify_beton`, `BetonFile`, `Manifest`: data as FFCV `.beton` files with a manifest.
- `open_loader`: batches from a beton, the same for every engine and number of workers.
- `fastdc.observe.observe`: one logged training on the full set; every score-based method reads its dynamics.
- `compress_beton`, `select`, `all_methods`, `get_method`: compression methods and the subsets they make.
- `scores`: the difficulty scores of the literature, computed directly from logits, high = hard.
- `evaluate`: accuracy of a network trained from scratch on a subset under one protocol.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastdc._version import __version__
from fastdc.common.threads import bound_spinning

if TYPE_CHECKING:
    from fastdc.beton import BetonFile, Manifest, verify_beton, write_beton
    from fastdc.common.errors import FastDCError
    from fastdc.loader import open_loader
    from fastdc.methods import all_methods, get_method, select
    from fastdc.methods.scores_of_logits import scores
    from fastdc.observe import ObserverConfig
    from fastdc.subsets.compress import compress_beton
    from fastdc.train import EvaluateSettings, get_protocol
    from fastdc.train.evaluation import evaluate

bound_spinning()  # must precede the first import of torch: libgomp reads the variable only once


_HOMES = {
    "fastdc.beton": ("BetonFile", "Manifest", "verify_beton", "write_beton"),
    "fastdc.subsets.compress": ("compress_beton",),
    "fastdc.common.errors": ("FastDCError",),
    "fastdc.loader": ("open_loader",),
    "fastdc.methods": ("all_methods", "get_method", "select"),
    "fastdc.methods.scores_of_logits": ("scores",),
    "fastdc.observe": ("ObserverConfig",),
    "fastdc.train": ("EvaluateSettings", "get_protocol"),
    "fastdc.train.evaluation": ("evaluate",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BetonFile",
    "EvaluateSettings",
    "FastDCError",
    "Manifest",
    "ObserverConfig",
    "__version__",
    "all_methods",
    "compress_beton",
    "evaluate",
    "get_method",
    "get_protocol",
    "open_loader",
    "scores",
    "select",
    "verify_beton",
    "write_beton",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first access, which keeps `fastdc --help` fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fastdc' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
