"""Identify files that cannot be read as images or archives, from their first bytes.

Source: the formats' own specifications; the LFS pointer from git-lfs/docs/spec.md.
"""

import re
from typing import NamedTuple

HEAD_BYTES = 512
"""Number of bytes that `find_kind` needs."""

NO_IMAGES = "a list of kept images or a file of scores is read by fastdc compress from-list or from-scores"
"""Advice about a file that may hold indices or scores."""
_UNPACK = "unpack it and give the folder, or pack that as .tar or .zip"
_DOWNLOAD = "get the file again: a server's answer was saved in its place"


class Kind(NamedTuple):
    """Kind of file that is not supported.

    Attributes:
        name: its name with an article, to follow "it is".
        advice: what to do; None for kinds of image, which can be converted.
    """

    name: str
    advice: str | None


# The first match counts: specific signatures stand before general ones (AVIF and HEIC before any other "ftyp").
_KINDS = (
    (rb"....ftypavi[fs]", Kind("an AVIF image", None)),
    (rb"....ftyp(hei|hev|mif1|msf1)", Kind("a HEIC image", None)),
    (rb"....ftyp", Kind("a video (MP4 or its like)", "take frames out of it first")),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", Kind("a JPEG 2000 image", None)),
    (rb"\0\0\0\x0cJXL |\xff\x0a", Kind("a JPEG XL image", None)),
    (rb"II\xbc\x01", Kind("a JPEG XR image", None)),
    (rb"8BPS", Kind("a Photoshop file", None)),
    (rb"\0\0\x01\0", Kind("a Windows icon", None)),
    (rb"v/1\x01", Kind("an OpenEXR image", None)),
    (rb"#\?R", Kind("a Radiance HDR image", None)),
    (rb"DDS |qoif", Kind("a texture (DDS or QOI)", None)),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Kind("a PostScript (EPS) file", None)),
    (rb"%PDF", Kind("a PDF", None)),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", Kind("an SVG drawing", None)),
    (rb"\s*(<!doctype html|<html|<head|<\?xml)", Kind("a web page or XML text", _DOWNLOAD)),
    (rb"\s*\{\s*\"", Kind("JSON text", f"{_DOWNLOAD}; {NO_IMAGES}")),
    (rb"version https://git-lfs", Kind("a Git LFS pointer, not the file itself", "run git lfs pull")),
    (rb"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip archive", _UNPACK)),
    (rb"\x28\xb5\x2f\xfd", Kind("Zstandard, which this Python cannot read (3.14 can)", "run zstd -d on it first")),
    (rb"\x04\x22\x4d\x18", Kind("LZ4", "run lz4 -d on it first")),
    (rb"LZIP", Kind("lzip", "run lzip -d on it first")),
    (rb"\x1f\x9d", Kind("a .Z file of compress", "run gzip -d on it first")),
    (rb"MSCF", Kind("a cabinet archive", _UNPACK)),
    (rb"hsqs", Kind("a squashfs image", "mount it and give the folder")),
    (rb"\x89HDF\r\n", Kind("an HDF5 file", "write its images as files, one folder per class")),
    (rb"\x93NUMPY", Kind("a NumPy array", f"save its images with their labels as one .npz: numpy.savez; {NO_IMAGES}")),
    (rb"\x80[\x02-\x05]", Kind("a pickle", f"save its images with their labels as one .npz: numpy.savez; {NO_IMAGES}")),
    (rb"ARROW1|\xff\xff\xff\xff....\x10\0\0\0", Kind("an Arrow file", "write it as parquet: Dataset.to_parquet")),
    (rb"PAR1", Kind("a parquet file", "let its name end in .parquet")),
    (rb"\0{512}", Kind("nothing but zero bytes", "get the file again: its copy or download broke off")),
)
_PATTERNS = tuple((re.compile(pattern, re.DOTALL | re.IGNORECASE), kind) for pattern, kind in _KINDS)


def find_kind(head: bytes) -> Kind | None:
    """Return the kind of a file that begins with `head`; None for supported images and archives, and for unknown files.

    Args:
        head: the first `HEAD_BYTES` bytes; fewer only if the file is shorter.
    """
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)
