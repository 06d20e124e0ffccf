"""Checks on what a caller asks for and on what the file holds."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile, manifest_path, sample_id
from fastdc.beton.manifest import parse_manifest
from fastdc.errors import BetonError, LoaderError, ManifestError

_QUICK_MANIFEST = 1_000_000  # bytes; parsing takes 10 ms


def check_samples(path: Path, total: int, indices: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The samples to load as int64: all of them, or `indices` if these are sound.

    Raises:
        LoaderError: there are none, or an index is not an integer, outside 0..total-1, or given twice (a sample has one
            view per epoch, so a repeated index would be the very same picture again).
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
    """Refuse labels that no loss can take.

    Raises:
        LoaderError: a label is negative, or not below the number of classes in the manifest (where that is at hand).
    """
    classes = _class_count(file)
    limit = np.iinfo(np.int64).max if classes is None else classes
    wrong = np.flatnonzero((file.labels < 0) | (file.labels >= limit))
    if wrong.size:
        expected = "0 or more" if classes is None else f"0..{classes - 1}"
        found = f"sample {wrong[0]}: label {file.labels[wrong[0]]}"
        raise LoaderError(f"{file.path}: {found}, expected {expected}; run verify-beton on it")


def _class_count(file: BetonFile) -> int | None:
    """Number of classes that the file's manifest names; None where there is none, or a large one (slow to parse)."""
    path = manifest_path(file.path)
    try:
        if path.stat().st_size > _QUICK_MANIFEST:
            return None
        manifest = parse_manifest(path)
    except (OSError, ManifestError):
        return None
    ours = (manifest.file_bytes, len(manifest.ids)) == (file.structure.file_bytes, file.num_samples)
    return len(manifest.classes) if ours else None


def decode_sample(file: BetonFile, sample: int) -> NDArray[np.uint8]:
    """Pixels of a sample, uint8 [H, W, 3], contiguous and writable: numba compiles anew for arrays that are read-only.

    Raises:
        LoaderError: it cannot be decoded; names the sample and, where the manifest is there, its id. Or the file was
            changed while it was read.
    """
    try:
        return np.require(file.decode(sample), requirements=["C", "W"])
    except BetonError as error:
        name = sample_id(file, sample)
        found = str(error) if name is None else str(error).replace(f"sample {sample}:", f"sample {sample} ({name}):", 1)
        raise LoaderError(f"{found}; run verify-beton --deep on the file") from error
