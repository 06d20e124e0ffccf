"""Split a beton in two by holding out a share of every class.

An image is drawn by a hash of its bytes. The draw therefore depends neither on the order of the images nor on their
names. A larger share holds out everything a smaller one does, and copies of an image never lie on both sides.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.manifest import INFERRED, Manifest, hash_content
from fastdc.beton.output_pair import beton_output
from fastdc.beton.pages import BetonWriter, Payload, hash_payload
from fastdc.beton.reader import BetonFile
from fastdc.beton.texts import Texts
from fastdc.beton.writer import Origin, commit
from fastdc.common.errors import BetonError, ConfigError
from fastdc.common.log import progress

SPLIT_SEED = 0
"""Seed of every draw, the same for all methods and seeds, so that they see the same images."""
SPLIT_VERSION = 1
"""Version of the draw, raised whenever the same share holds out other images."""
TOOL = "fastdc holdout"
KEPT, HELD_OUT = "kept", "held out"


class Part(NamedTuple):
    """One side of a split.

    Attributes:
        indices: int64 [M], indices of its images in the source, ascending.
        manifest: its future manifest. Until the part is written, `image_bytes` and `file_bytes` are 0 and
            `structure_hash` is "".
    """

    indices: NDArray[np.int64]
    manifest: Manifest


def split_made(source: Manifest, share: float, part: str) -> dict[str, Any]:
    """Return the `made` of a part's manifest: everything that its content depends on.

    A part of a beton without a manifest stays `Manifest.inferred`, because its classes are numbers too.
    """
    made = {"holdout": share, "part": part, "of": source.content_hash, "seed": SPLIT_SEED, "version": SPLIT_VERSION}
    return {"tool": INFERRED if source.inferred else TOOL, **made}


def split_beton(path: Path, source: Manifest, share: float) -> tuple[Part, Part]:
    """Return the kept and the held-out part of a beton, without writing either.

    Args:
        path: the beton.
        source: its manifest.
        share: share of every class to hold out, 0 < share < 1; at least one image is held out and one is kept.

    Raises:
        ConfigError: a class has too few different images.
        BetonError: the beton is missing or damaged.
    """
    with BetonFile(path) as file:
        labels = file.labels
    held = held_out(labels, source.hashes, share)
    sides = np.flatnonzero(~held), np.flatnonzero(held)
    for side in sides:
        missing = np.flatnonzero(
            (np.bincount(labels[side], minlength=len(source.counts)) == 0) & (np.array(source.counts) != 0)
        )
        if missing.size:
            raise ConfigError(f"{path}: {_too_few(source, int(missing[0]), share)}")
    return (
        _part(source, labels, sides[0], split_made(source, share, KEPT)),
        _part(source, labels, sides[1], split_made(source, share, HELD_OUT)),
    )


def _too_few(source: Manifest, label: int, share: float) -> str:
    count = source.counts[label]
    found = "1 image" if count == 1 else f"{count} images, which are copies of images that are held out"
    return (
        f"class '{source.classes[label]}' has {found}; holdout={share:g} takes at least one image and "
        "leaves at least one: add images, or give a validation set"
    )


def held_out(labels: NDArray[np.int64], hashes: Iterable[str], share: float) -> NDArray[np.bool_]:
    """Choose the images to hold out: of every class those with the smallest hashes, and all their copies.

    Args:
        labels: int64 [N], classes.
        hashes: [N], `bytes_key` of the stored bytes.
        share: part of each class to hold out, 0..1.

    Returns:
        bool [N], true for the images that are held out.
    """
    drawn = (hashlib.sha256(f"{TOOL} {SPLIT_SEED} {key}".encode()).digest()[:8] for key in hashes)
    draws = np.frombuffer(b"".join(drawn), "<u8")
    order = np.lexsort((draws, labels))  # by label, then by draw: the last key is the primary one
    counts = np.bincount(labels)
    # floor(x + 0.5) rounds half up; np.round would round half to even. A class of one image stays whole.
    wanted = np.where(counts > 1, np.clip(np.floor(counts * share + 0.5), 1, np.maximum(counts - 1, 1)), 0)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # rank within its class
    chosen = draws[order[place < np.repeat(wanted, counts)]]
    return np.isin(draws, chosen)


def _part(source: Manifest, labels: NDArray[np.int64], indices: NDArray[np.int64], made: dict[str, Any]) -> Part:
    hashes = Texts.of(source.hashes[index] for index in indices)
    chosen, hints = labels[indices], source.hints
    manifest = source.model_copy(
        update={
            "split": source.split if made["part"] == KEPT else "holdout",
            "counts": tuple(np.bincount(chosen, minlength=len(source.classes)).tolist()),
            "ids": Texts.of(source.ids[index] for index in indices),
            "hashes": hashes,
            "source": f"{source.dataset} {source.content_hash}",
            "made": made,
            "converted": {},
            "skipped": (),
            "order": "own",
            "image_bytes": 0,
            "content_hash": hash_content(source.classes, chosen, hashes, hints),
            "file_bytes": 0,
            "structure_hash": "",
        }
    )
    return Part(indices, manifest)


def write_part(out: Path, path: Path, part: Part) -> Manifest:
    """Write one side of a split, with unchanged payloads, and return its manifest.

    Args:
        out: the beton to write; an existing one is replaced.
        path: the source.
        part: the side to write.

    Raises:
        BetonError: an image of the source does not match its manifest.
        OutputError: `out` cannot be written.
    """
    made = part.manifest
    origin = Origin(made.dataset, made.split, made.source, made.classes, made.made, made.hints)
    with beton_output(out, force=True, inputs=[path]) as handle, BetonFile(path) as file:
        writer = BetonWriter(handle, out, len(part.indices))
        with progress(f"write {out.name}", len(part.indices)) as bar:
            for number, index in enumerate(part.indices.tolist()):
                data = bytes(file.payload(index))
                digest = hash_payload(data)
                if digest.hex() != made.hashes[number]:
                    raise BetonError(
                        f"{path}: sample {index} ({made.ids[number]}): its bytes are not those of its manifest; "
                        f"fastdc verify-beton {path} --deep lists what is damaged"
                    )
                sides = int(file.heights[index]), int(file.widths[index])
                writer.append(Payload(data, int(file.modes[index]), *sides, digest), int(file.labels[index]), number)
                bar.advance()
        return commit(handle, out, writer, origin, made.ids, {}, ())
