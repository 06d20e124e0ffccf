"""Find defects of a beton and its manifest."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastdc.beton.format import METADATA_START, Problem, Structure, make_preamble, report
from fastdc.beton.manifest import Manifest, find_mismatch, manifest_path, parse_manifest
from fastdc.beton.missing_manifest import warn_missing
from fastdc.beton.reader import BetonFile, inspect_beton
from fastdc.common.errors import BetonError, ManifestError
from fastdc.common.keys import bytes_key
from fastdc.common.threads import usable_cpus

_CHUNK = 1 << 22
_SAMPLES_PER_TASK = 128


def verify_beton(path: Path, deep: bool = False) -> list[Problem]:
    """Check a beton, and its manifest if one is beside it. A missing one (as of stock FFCV) is reported on stderr.

    With `deep`, the whole file is read. Every sample is compared with its hash in the manifest, and gaps must hold
    zeros. That finds any byte that changed since the file was written. Every sample is also decoded. That finds images
    that were damaged before, such as a JPEG with a broken middle that encoding "keep" copied. A garbled picture that
    its decoder accepts without complaint cannot be detected.

    Args:
        path: the file.
        deep: also check every sample and every gap.

    Returns:
        The problems; empty if the file is sound. A sample's problem has its index, and its id if there is a manifest.

    Raises:
        BetonError: the file is missing or cannot be read.
    """
    path = Path(path)
    structure, problems = inspect_beton(path)
    manifest = None
    if not manifest_path(path).exists():
        warn_missing(path, manifest_path(path))
    else:
        try:
            manifest = parse_manifest(manifest_path(path))
        except ManifestError as error:
            problems.append(Problem("manifest", None, None, str(error)))
    if structure is not None and manifest is not None:
        problems += _check_manifest(manifest, structure)
    if deep and structure is not None and not any(problem.section != "manifest" for problem in problems):
        problems += _check_padding(path, structure, strict=manifest is not None)
        problems += _check_payloads(path, manifest)
    return [_with_id(problem, manifest) for problem in problems]


def _check_manifest(manifest: Manifest, structure: Structure) -> Iterator[Problem]:
    labels = structure.metadata["label"]
    classes = len(manifest.classes)
    yield from report(
        "metadata", labels >= classes, lambda i: f"label {labels[i]}, but the manifest has {classes} classes"
    )
    mismatch = find_mismatch(manifest, structure)
    if mismatch:
        yield Problem("manifest", None, None, mismatch)


def _check_padding(path: Path, structure: Structure, strict: bool) -> Iterator[Problem]:
    """Check that the gaps between the parts of the file hold zeros, as FFCV and fastdc write them."""
    table = structure.allocations[np.argsort(structure.allocations["ptr"], kind="stable")]
    starts = np.concatenate([[METADATA_START + structure.metadata.nbytes], table["ptr"] + table["size"]]).astype(int)
    ends = np.concatenate([table["ptr"], [structure.table_start]]).astype(int)
    with path.open("rb") as handle:
        preamble = make_preamble(len(structure.metadata), structure.page_size, structure.table_start)
        if strict and handle.read(METADATA_START) != preamble:
            yield Problem("fields", None, None, "the field descriptors hold bytes other than those written")
        for start, end in zip(starts[ends > starts].tolist(), ends[ends > starts].tolist(), strict=True):
            handle.seek(start)
            for position in range(start, end, _CHUNK):
                block = handle.read(min(_CHUNK, end - position))
                if block.count(0) != len(block):
                    found = position + int(np.flatnonzero(np.frombuffer(block, np.uint8))[0])
                    yield Problem("padding", None, None, f"byte {found}, outside every sample, is not zero")
                    break


def _check_payloads(path: Path, manifest: Manifest | None) -> Iterator[Problem]:
    """Compare every payload with its hash and decode it. Both steps release the GIL, so threads share the work."""
    with BetonFile(path) as file, ThreadPoolExecutor(usable_cpus()) as pool:
        known = manifest.hashes if manifest is not None and len(manifest.hashes) == len(file) else None
        starts = range(0, len(file), _SAMPLES_PER_TASK)
        tasks = [pool.submit(_check_range, file, known, start) for start in starts]
        for task in tasks:
            yield from task.result()


def _check_range(file: BetonFile, hashes: Sequence[str] | None, start: int) -> list[Problem]:
    problems = []
    for index in range(start, min(start + _SAMPLES_PER_TASK, len(file))):
        if hashes is not None and bytes_key(file.payload(index)) != hashes[index]:
            problems.append(Problem("payload", index, None, "its bytes are not those that were written"))
            continue
        try:
            file.decode(index)
        except BetonError as error:
            message = str(error).removeprefix(f"{file.path}: sample {index}: ")
            problems.append(Problem("payload", index, None, message))
    return problems


def _with_id(problem: Problem, manifest: Manifest | None) -> Problem:
    if problem.index is None or manifest is None or problem.index >= len(manifest.ids):
        return problem
    return problem._replace(id=manifest.ids[problem.index])
