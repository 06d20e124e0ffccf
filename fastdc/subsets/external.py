"""Sets of other origin that are ranked beside the methods: a beton, a list, or scores of the training images.

A command names one as NAME=FILE.beton, NAME=list:FILE or NAME=scores:FILE, with settings in brackets.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile, Manifest, describe_beton, one_spelling
from fastdc.beton.classes import class_difference
from fastdc.beton.hints import tile_crop
from fastdc.beton.manifest import unknown_classes
from fastdc.beton.sample_order import Order
from fastdc.beton.verify import verify_beton
from fastdc.common.errors import BetonError, ConfigError, MethodError
from fastdc.common.files import check_file
from fastdc.common.keys import content_key, file_key
from fastdc.common.settings import Settings
from fastdc.methods.bases.method_config import Fit
from fastdc.subsets.compress import CompressResult
from fastdc.subsets.external_names import ExternalName, Kind
from fastdc.subsets.from_list import check_side, compress_list
from fastdc.subsets.lists import read_list
from fastdc.subsets.store_subset import STORAGE_VERSION

_ORDER_ADVICE = "name images by id or path, or, where the indices count the images of the beton, add [index_order=own]"


class BetonRules(Settings):
    """Settings of an imported beton: none, because it is trained on as it is."""


class ListRules(Settings):
    """Rules that turn a list into images.

    Attributes:
        fit: how an image becomes S x S, or fills its tile; None takes that of a list of mosaics, else `crop`.
        index_order: numbering of indices; see `fastdc.subsets.lists.read_list`.
    """

    fit: Fit | None = None
    index_order: Order = "imagefolder"


RULES: dict[Kind, type[Settings]] = {"beton": BetonRules, "list": ListRules}


@dataclass(frozen=True)
class ExternalSet:
    """External set whose file was read and checked against the training set.

    Attributes:
        name: how tables call it.
        kind, path: its file.
        rules: the settings that turn the file into images.
        content: key of what the file holds: of a beton its `content_hash`, of another file its bytes.
        counts: images of every class.
        hints: training hints of its images.
        note: what a table states about it, such as `list kept.npy`.
    """

    name: str
    kind: Kind
    path: Path
    rules: Settings
    content: str
    counts: tuple[int, ...]
    hints: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ipc(self) -> int:
        """Return the images per class; if classes differ, the mean, rounded to a whole number above 0."""
        return max(1, int(sum(self.counts) / len(self.counts) + 0.5))

    @property
    def per_class(self) -> str | None:
        """Return the fewest and most images of a class as text, `3-6`; None if all classes have as many."""
        low, high = min(self.counts), max(self.counts)
        return None if low == high else f"{low}-{high}"

    def check(self, deep: bool = False) -> None:
        """Refuse a file that changed since it was read.

        Args:
            deep: also decode the images of a beton and compare them with their hashes.

        Raises:
            MethodError: the content is another one.
            BetonError: the beton is damaged, or missing.
        """
        check_file(self.path, f"the file of external set {self.name}", ConfigError)
        if _content(self.kind, self.path) != self.content:
            raise MethodError(f"{self.path}: changed after external set {self.name} was read; run the command again")
        problems = verify_beton(self.path, deep=True) if deep and self.kind == "beton" else []
        if problems:
            raise BetonError(f"{self.path}: {problems[0]}; fastdc verify-beton {self.path} --deep lists the damage")


def _content(kind: Kind, path: Path) -> str:
    return describe_beton(path).content_hash if kind == "beton" else file_key(path)


@dataclass(frozen=True)
class TrainingSet:
    """Training set that external sets are checked against.

    Attributes:
        path, manifest: its beton. labels: int64 [N], classes of its images.
        val: hashes of the images that sets are validated on.
        split: whether these were held out of the training set's file.
    """

    path: Path
    manifest: Manifest
    labels: NDArray[np.int64]
    val: frozenset[str] = frozenset()
    split: bool = False


def open_external(name: ExternalName, given: Mapping[str, Any], train: TrainingSet, image_size: int) -> ExternalSet:
    """Read the file of an external set and check that it fits the training set, without writing anything.

    Args:
        name: the set as the command names it.
        given: all its settings.
        train: the training set.
        image_size: side S of the training crops in pixels.

    Raises:
        ConfigError: the file is missing or cannot be read, its classes or its image size do not fit, or a setting is
            unknown.
        MethodError: an entry of a list does not fit the training set.
        BetonError, ManifestError: a beton is damaged.
    """
    if name.kind == "beton" and given:
        raise ConfigError(
            f"external set {name.name}: {', '.join(given)} has no meaning, an imported beton is trained on as it is; only "
            "protocol.KEY can be set"
        )
    rules = RULES[name.kind].make(given, f"external set {name.name}")
    check_file(name.path, f"the file of external set {name.name}", ConfigError)
    if isinstance(rules, ListRules):
        return _open_list(name, rules, train, image_size)
    return _open_beton(name, rules, train, image_size)


def _open_beton(name: ExternalName, rules: Settings, train: TrainingSet, image_size: int) -> ExternalSet:
    path, manifest = name.path, describe_beton(name.path)
    _check_classes(name, manifest, train)
    hinted = manifest.hints.get("image_size", image_size)
    if hinted != image_size:
        raise ConfigError(
            f"{path}: external set {name.name} is made for crops of {hinted} px, this sweep trains at {image_size}; "
            f"give --image-size {hinted}, or leave the set out"
        )
    try:
        tile_crop("method", manifest.hints)  # called for its check of the hints
    except ConfigError as error:
        raise ConfigError(f"{path}: external set {name.name}: {error}") from error
    seen = _validated(name, manifest, train)
    with BetonFile(path) as file:
        sides = {int(side) for sides in (file.heights, file.widths) for side in (sides.min(), sides.max())}
    sized = "" if sides == {image_size} else f", images of {'-'.join(map(str, sorted({min(sides), max(sides)})))} px"
    note = f"beton {path.name}{sized}{seen}"
    return ExternalSet(*name[:3], rules, manifest.content_hash, manifest.counts, manifest.hints, note)


def _validated(name: ExternalName, manifest: Manifest, train: TrainingSet) -> str:
    """Return a remark on images that are validated on too; empty without any.

    Raises:
        ConfigError: they were held out of the training set, which keeps no copy of them; or all images are such.
    """
    seen = sum(key in train.val for key in manifest.hashes)
    if not seen:
        return ""
    if train.split or seen == len(manifest.hashes):
        raise ConfigError(
            f"{name.path}: {seen:,} of the {len(manifest.hashes):,} images of external set {name.name} are validated "
            f"on{', held out of the training set' if train.split else ''}; leave them out"
        )
    return f", {seen:,} of its images are validated on"


def _check_classes(name: ExternalName, manifest: Manifest, train: TrainingSet) -> None:
    difference = class_difference(("the training set", train.manifest.classes), ("the set", manifest.classes))
    if difference is None:
        return
    unknown = unknown_classes((train.path, train.manifest), (name.path, manifest))
    advice = "give one of the training set's classes"
    if set(map(one_spelling, manifest.classes)) == set(map(one_spelling, train.manifest.classes)):
        advice = f"write it again with --classes {train.path}"
    raise ConfigError(
        unknown or f"{name.path}: external set {name.name} does not fit {train.path}: {difference}; {advice}"
    )


def _open_list(name: ExternalName, rules: ListRules, train: TrainingSet, image_size: int) -> ExternalSet:
    if rules.index_order == "own" and train.split:
        raise ConfigError(
            f"external set {name.name}: index_order=own has no meaning with --holdout, which numbers the images anew; "
            "name images by id or path"
        )
    content = file_key(name.path)
    found = read_list(name.path, train.manifest, train.labels, rules.index_order, _ORDER_ADVICE)
    check_side(name.path, found, image_size)
    if found.combined is not None:
        found.combined.mosaic(name.path, rules.fit)  # called for its check that the list records how they are combined
    counts = np.bincount(train.labels[found.sources[:, 0]], minlength=len(train.manifest.classes))
    hints = {} if found.combined is None else found.combined.hints
    return ExternalSet(*name[:3], rules, content, tuple(counts.tolist()), hints, f"list {name.path.name}")


def beton_key(name: str, content_hash: str) -> str:
    """Return the key of an imported beton; see `ExternalRequest.key`."""
    return content_key({"external": "beton", "name": name, "content": content_hash})


@dataclass(frozen=True, kw_only=True)
class ExternalRequest:
    """Request for the images of an external set, beside `SubsetRequest`.

    Attributes:
        source: the set.
        train, manifest: the training set that its file refers to.
        image_size: side S of the stored images in pixels.
    """

    source: ExternalSet
    train: Path
    manifest: Manifest
    image_size: int

    def identity(self) -> dict[str, Any]:
        """Return all inputs that determine the images, and the name, which gives a set a row of its own."""
        source = self.source
        found = {"external": source.kind, "name": source.name, "content": source.content}
        if source.kind == "beton":  # trained on as it is
            return found
        made = {"storage": STORAGE_VERSION, "train": self.manifest.content_hash, "image_size": self.image_size}
        return {**found, **made, "rules": source.rules.model_dump(mode="json")}

    @property
    def key(self) -> str:
        """Return the content key of `identity`."""
        return content_key(self.identity())

    @property
    def given(self) -> Path | None:
        """Return the beton that is trained on as it is; None if the images have to be stored first."""
        return self.source.path if self.source.kind == "beton" else None

    @property
    def images(self) -> int:
        """Return the number of images."""
        return sum(self.source.counts)


def make_external(request: ExternalRequest, out: Path) -> CompressResult:
    """Store the images of a list at `out`, as `fastdc compress from-list` does; existing files are replaced.

    Raises:
        MethodError: the file changed since it was read.
        FastDCError: see `compress_list`.
    """
    source, start = request.source, time.monotonic()
    assert isinstance(source.rules, ListRules)
    rules = source.rules
    source.check()
    made = compress_list(
        source.path,
        request.train,
        out,
        image_size=request.image_size,
        fit=rules.fit,
        index_order=rules.index_order,
        force=True,
    )
    source.check()  # the list may have changed while it was read
    return CompressResult(made, {"writing": time.monotonic() - start})
