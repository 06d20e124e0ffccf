"""Checks of a caller's arguments and of the file's content."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile, manifest_path, sample_id
from fastdc.beton.manifest import parse_manifest
from fastdc.common.errors import BetonError, LoaderError, ManifestError
from fastdc.loader.descriptor import StoredFile

_QUICK_MANIFEST = 1_000_000  # bytes; parsing takes 10 ms


def check_samples(path: Path, total: int, indices: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the samples to load as int64: all of them, or `indices` if they are valid.

    Raises:
        LoaderError: there are no samples, or an index is not an integer, outside 0..total-1, or repeated. A repeated
            index would have the same random draws and give an identical picture.
    """
    if total == 0:
        raise LoaderError(f"{path}: holds 0 samples, so there are 0 batches; write it again from a folder with images")
    if indices is None:
        return np.arange(total, dtype=np.int64)
    given = np.asarray(indices)
    if given.size == 0:
        raise LoaderError(f"{path}: indices are empty, so there are 0 batches; expected at least one sample")
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise LoaderError(f"{path}: indices are {given.dtype} {list(given.shape)}, expected a list of integers")
    outside = (given < 0) | (given >= total)
    if outside.any():
        raise LoaderError(f"{path}: index {given[outside][0]} does not exist, expected 0..{total - 1}")
    samples = given.astype(np.int64)
    ordered = np.sort(samples)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise LoaderError(f"{path}: index {repeated[0]} is given more than once; give each sample once")
    return samples


def check_labels(file: BetonFile) -> None:
    """Check that a loss can take every label.

    Raises:
        LoaderError: a label is negative, or not below the number of classes in the manifest (if one is available).
    """
    classes = _class_count(file)
    limit = np.iinfo(np.int64).max if classes is None else classes
    wrong = np.flatnonzero((file.labels < 0) | (file.labels >= limit))
    if wrong.size:
        expected = "0 or more" if classes is None else f"0..{classes - 1}"
        found = f"sample {wrong[0]}: label {file.labels[wrong[0]]}"
        raise LoaderError(f"{file.path}: {found}, expected {expected}; run verify-beton on it")


def _class_count(file: BetonFile) -> int | None:
    """Return the number of classes in the file's manifest.

    It is None without a readable manifest for this file, and for a large manifest, which is slow to parse.
    """
    path = manifest_path(file.path)
    try:
        if path.stat().st_size > _QUICK_MANIFEST:
            return None
        manifest = parse_manifest(path)
    except (OSError, ManifestError):
        return None
    # A manifest left over from another file of this name is ignored.
    ours = (manifest.file_bytes, len(manifest.ids)) == (file.structure.file_bytes, file.num_samples)
    return len(manifest.classes) if ours else None


def decode_sample(file: StoredFile, sample: int) -> NDArray[np.uint8]:
    """Return the pixels of a sample, uint8 [H, W, 3], contiguous and writable.

    numba would compile another version of its kernels for read-only arrays.

    Raises:
        LoaderError: the sample cannot be decoded (the message names it and, if there is a manifest, its id), or the
            file was changed during the read.
    """
    try:
        return np.require(file.decode(sample), requirements=["C", "W"])
    except BetonError as error:
        file.check_unchanged(sample)  # a file that is overwritten during the read is not damaged
        name = sample_id(file, sample)
        found = str(error) if name is None else str(error).replace(f"sample {sample}:", f"sample {sample} ({name}):", 1)
        raise LoaderError(f"{found}; run verify-beton --deep on the file") from error
