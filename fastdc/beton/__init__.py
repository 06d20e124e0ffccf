"""Read, write, verify and describe `.beton` files. The package imports neither torch nor ffcv.

Public names load on first use (PEP 562), so importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdc.beton.convert import write_beton
    from fastdc.beton.counting import count_image_bytes, holds_raw
    from fastdc.beton.encode_images import encode_jpeg, encode_jpeg_optimised, encode_jpeg_within, png_bytes
    from fastdc.beton.format import Problem
    from fastdc.beton.images import decode_image
    from fastdc.beton.manifest import Manifest, Skipped, describe_beton, load_manifest, manifest_path, sample_id
    from fastdc.beton.output_pair import check_beton_output
    from fastdc.beton.reader import BetonFile
    from fastdc.beton.resize_images import fit_image, resize_image, resize_short
    from fastdc.beton.texts import one_spelling
    from fastdc.beton.verify import verify_beton
    from fastdc.beton.writer import Sample, write_samples

# Keep in step with the TYPE_CHECKING block above: type checkers read that one, `__getattr__` this one.
_HOMES = {
    "convert": ("write_beton",),
    "counting": ("count_image_bytes", "holds_raw"),
    "format": ("Problem",),
    "encode_images": ("encode_jpeg", "encode_jpeg_optimised", "encode_jpeg_within", "png_bytes"),
    "images": ("decode_image",),
    "manifest": ("Manifest", "Skipped", "describe_beton", "load_manifest", "manifest_path", "sample_id"),
    "output_pair": ("check_beton_output",),
    "reader": ("BetonFile",),
    "resize_images": ("fit_image", "resize_image", "resize_short"),
    "texts": ("one_spelling",),
    "verify": ("verify_beton",),
    "writer": ("Sample", "write_samples"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BetonFile",
    "Manifest",
    "Problem",
    "Sample",
    "Skipped",
    "check_beton_output",
    "count_image_bytes",
    "decode_image",
    "describe_beton",
    "encode_jpeg",
    "encode_jpeg_optimised",
    "encode_jpeg_within",
    "fit_image",
    "holds_raw",
    "load_manifest",
    "manifest_path",
    "one_spelling",
    "png_bytes",
    "resize_image",
    "resize_short",
    "sample_id",
    "verify_beton",
    "write_beton",
    "write_samples",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # later accesses bypass __getattr__
    return value


def __dir__() -> list[str]:
    return __all__
