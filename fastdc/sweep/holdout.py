"""Split the training set for a sweep with `holdout`; the held-out part replaces the validation set.

The two parts are written once, as betons in `DIR/holdout/KEY`. The sweep reads all its data from them, so a held-out
image cannot reach observers, teachers, scores, choices or `full`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdc.common.errors import FastDCError, OutputError
from fastdc.common.keys import content_key
from fastdc.common.locks import locked
from fastdc.common.log import log_message, shows_progress
from fastdc.common.text import format_bytes
from fastdc.sweep.sweep_config import SweepConfig

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.beton.split import Part
    from fastdc.subsets.external import TrainingSet

NAMES = ("train.beton", "held-out.beton")
BYTES_PER_IMAGE = 200
"""Bytes of an image in a beton's tables and its manifest."""


@dataclass(frozen=True)
class Holdout:
    """Describe the split that a sweep runs on.

    Attributes:
        source: the training set's beton. content_hash: identity of its data.
        share: part of each class that is held out.
        counts: numbers of images that are kept and held out.
        folder: where the two betons are or will be.
        holds_raw: whether any kept image is stored as raw pixels.
        bytes_left: approximate bytes still to be written; 0 if both betons exist.
    """

    source: Path
    content_hash: str
    share: float
    counts: tuple[int, int]
    folder: Path
    holds_raw: bool
    bytes_left: int

    @property
    def line(self) -> str:
        """Describe in one line what the sweep does with its data."""
        kept, held = self.counts
        what = f"{held:,} of {kept + held:,} images of {self.source} ({100 * self.share:g} % of each class)"
        where = f"{'to be written to' if self.bytes_left else 'in'} {self.folder}"
        return f"holdout: {what} take the validation set's place, the same ones for every method and seed; {where}"


class Data(NamedTuple):
    """Hold the data of a sweep.

    Attributes:
        config: the sweep's configuration, with the paths of the data that it reads.
        train, val: manifests of that data.
        holdout: the split that they come from, if any.
    """

    config: SweepConfig
    train: "Manifest"
    val: "Manifest"
    holdout: Holdout | None


def read_data(config: SweepConfig) -> Data:
    """Return the data of a sweep without writing anything.

    The manifests of a split are known before the split is written.

    Raises:
        BetonError, ManifestError: train or val is not a sound beton.
        ConfigError: a class has too few images to be split.
    """
    from fastdc.beton import describe_beton, holds_raw
    from fastdc.beton.split import split_beton

    train = describe_beton(config.train)
    if config.holdout is None:
        return Data(config, train, describe_beton(config.val_file), None)
    folder = _folder(config.workdir, train, config.holdout)
    paths = folder / NAMES[0], folder / NAMES[1]
    kept, held = _stored(folder, train, config.holdout)
    if kept is not None and held is not None:
        raw, left = holds_raw(paths[0]), 0
    else:
        sides = split_beton(config.train, train, config.holdout)
        missing = [side for side, stored in zip(sides, (kept, held), strict=True) if stored is None]
        kept, held = (side.manifest for side in sides)
        raw, left = _look(config.train, sides[0], missing)
    counts = len(kept.ids), len(held.ids)
    split = Holdout(config.train, train.content_hash, config.holdout, counts, folder, raw, left)
    # From here on the two parts are ordinary train and val files; `Plan.holdout` keeps the split.
    own = {"train": paths[0], "val": paths[1], "holdout": None}
    return Data(config.model_copy(update=own), kept, held, split)


def training_set(data: Data) -> "TrainingSet":
    """Return the training set that external sets refer to; with a split, its kept part, which need not exist yet."""
    from fastdc.beton import BetonFile, describe_beton
    from fastdc.beton.split import held_out
    from fastdc.subsets.external import TrainingSet

    val = frozenset(data.val.hashes)
    split, path = data.holdout, data.config.train if data.holdout is None else data.holdout.source
    with BetonFile(path) as file:
        labels = file.labels
    if split is None:
        return TrainingSet(path, data.train, labels, val)
    kept = ~held_out(labels, describe_beton(path).hashes, split.share)
    return TrainingSet(path, data.train, labels[kept], val, split=True)


def _folder(workdir: Path, train: "Manifest", share: float) -> Path:
    from fastdc.beton.split import split_made

    return workdir / "holdout" / content_key(split_made(train, share, "both"), 12)


def _stored(folder: Path, train: "Manifest", share: float) -> "list[Manifest | None]":
    """Return the manifests of the two parts; None for a part that is missing or damaged and has to be written."""
    from fastdc.beton import load_manifest
    from fastdc.beton.split import HELD_OUT, KEPT, split_made

    found: list[Manifest | None] = []
    for name, part in zip(NAMES, (KEPT, HELD_OUT), strict=True):
        try:
            manifest = load_manifest(folder / name)
        except FastDCError:
            found.append(None)
        else:
            # The folder's name is only a short hash, so the manifest must name the same split.
            found.append(manifest if manifest.made == split_made(train, share, part) else None)
    return found


def _look(path: Path, kept: "Part", missing: "Sequence[Part]") -> tuple[bool, int]:
    """Return whether any kept image is stored as raw pixels, and the approximate bytes of the missing parts."""
    from fastdc.beton import BetonFile
    from fastdc.beton.format import MODE_RAW

    with BetonFile(path) as file:
        raw = bool((file.modes[kept.indices] == MODE_RAW).any())
        return raw, sum(int(file.sizes[part.indices].sum()) + BYTES_PER_IMAGE * len(part.indices) for part in missing)


def write_holdout(split: Holdout) -> "tuple[Manifest, Manifest]":
    """Write the missing parts of a split; return the manifests of both.

    Sweeps on one workdir share the split, so it is written once.

    Raises:
        OutputError: the disk is too small, or fails.
        BetonError: an image of the training set differs from its manifest.
    """
    from fastdc.beton import describe_beton

    split.folder.mkdir(parents=True, exist_ok=True)
    train = describe_beton(split.source)
    with locked(split.folder / ".lock"):
        _write_missing(split, train)
    kept, held = _stored(split.folder, train, split.share)
    if kept is None or held is None:
        raise OutputError(f"{split.folder}: was removed while it was written; run the sweep again")
    return kept, held


def _write_missing(split: Holdout, train: "Manifest") -> None:
    from fastdc.beton.split import split_beton, write_part

    stored = _stored(split.folder, train, split.share)
    if None not in stored:  # another sweep wrote them while this one waited for the lock
        return
    free = shutil.disk_usage(split.folder).free
    if free < split.bytes_left:
        raise OutputError(
            f"{split.folder}: the two parts of {split.source} take {format_bytes(split.bytes_left)}, and "
            f"{format_bytes(free)} are free; free space or choose another --workdir"
        )
    if shows_progress():
        log_message(split.line)
    for name, side, there in zip(NAMES, split_beton(split.source, train, split.share), stored, strict=True):
        if there is None:
            write_part(split.folder / name, split.source, side)
