"""fastdc: large-scale dataset compression under one fair, fast, repeatable benchmark.

The public API, imported when first used (torch only where it is needed):

- `write_beton`, `verify_beton`, `BetonFile`, `Manifest`: data as FFCV `.beton` files with a manifest.
- `open_loader`: batches from a beton, the same for every engine and number of workers.
- `fastdc.observe.observe`: one training on the full set; its dynamics serve every score-based method.
- `compress_beton`, `select`, `all_methods`, `get_method`: methods and the subsets that they make.
- `evaluate`: accuracy of a network trained from scratch on a subset under one protocol.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BetonFile": "fastdc.beton",
    "Manifest": "fastdc.beton",
    "verify_beton": "fastdc.beton",
    "write_beton": "fastdc.beton",
    "open_loader": "fastdc.loader",
    "ObserverConfig": "fastdc.observe",
    "compress_beton": "fastdc.compress",
    "all_methods": "fastdc.methods",
    "get_method": "fastdc.methods",
    "select": "fastdc.methods",
    "EvaluateSettings": "fastdc.train",
    "get_protocol": "fastdc.train",
    "evaluate": "fastdc.train.evaluation",
    "FastDCError": "fastdc.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `fastdc --help` stays quick."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastdc' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
