"""Sets of other origin that are ranked beside the methods: a beton, a list, or scores of the training images.

A command names one as NAME=FILE.beton, NAME=list:FILE or NAME=scores:FILE, with settings in brackets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile, Manifest, describe_beton, one_spelling
from fastdc.beton.classes import class_difference
from fastdc.beton.format import MODE_RAW
from fastdc.beton.hints import show_hints, stored_hints, tile_crop
from fastdc.beton.manifest import unknown_classes
from fastdc.beton.sample_order import Order
from fastdc.beton.verify import verify_beton
from fastdc.common.choices import End
from fastdc.common.errors import BetonError, ConfigError, MethodError
from fastdc.common.files import check_file
from fastdc.common.keys import file_key
from fastdc.common.log import log_message
from fastdc.common.settings import Settings
from fastdc.methods.bases.method import shortage
from fastdc.methods.bases.method_config import Fit, Keep
from fastdc.methods.bases.score_methods import ScoreConfig
from fastdc.subsets.external_names import ExternalName, Kind
from fastdc.subsets.from_list import check_side
from fastdc.subsets.list_scores import BY_ID
from fastdc.subsets.lists import read_list
from fastdc.subsets.score_files import read_scores

_CROP_ADVICE = "; crop inside tiles by write-beton --hint tile_grid=2, or by sweep --augment tile:2 for all sets"


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


class ScoreRules(ScoreConfig):
    """Rules that turn scores into images.

    Attributes:
        keep: end of the ranking that is kept; has no default, because scores of other programs have none.
        score, high, index_order: see `fastdc.subsets.score_files.read_scores`.
    """

    keep: Keep
    score: str | None = None
    high: End | None = None
    index_order: Order = "imagefolder"

    @property
    def config(self) -> ScoreConfig:
        """Return the settings of the ranking."""
        return ScoreConfig(**self.model_dump(include=set(ScoreConfig.model_fields)))


RULES: dict[Kind, type[Settings]] = {"beton": BetonRules, "list": ListRules, "scores": ScoreRules}


@dataclass(frozen=True)
class ExternalSet:
    """External set whose file was read and checked against the training set.

    Attributes:
        name: how tables call it.
        kind, path: its file.
        rules: the settings that turn the file into images.
        content: key of what the file holds: of a beton its `content_hash`, of another file its bytes.
        counts: images of every class; None for scores, which give as many as a sweep takes of every method.
        hints: training hints of its images.
        note: what a table states about it, such as `list kept.npy`; see `stated`.
    """

    name: str
    kind: Kind
    path: Path
    rules: Settings
    content: str
    counts: tuple[int, ...] | None
    hints: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ipc(self) -> int | None:
        """Return the set's own images per class; if classes differ, the mean, rounded to a whole number above 0."""
        return None if self.counts is None else max(1, int(sum(self.counts) / len(self.counts) + 0.5))

    @property
    def stated(self) -> str:
        """Return the note with the hints by which training crops the images."""
        shown = show_hints(self.hints)
        return f"{self.note}, cropped by {shown}" if shown else self.note

    @property
    def per_class(self) -> str | None:
        """Return the fewest and most images of a class as text, `3-6`; None if all classes have as many."""
        low, high = (min(self.counts), max(self.counts)) if self.counts is not None else (0, 0)
        return None if low == high else f"{low}-{high}"

    def budget_problem(self, train: Manifest, ipc: int) -> str | None:
        """Return why the training set has too few images for scores to choose `ipc` of each class, or None."""
        if not isinstance(self.rules, ScoreRules):
            return None
        return shortage(train.classes, train.counts, ipc, ipc, self.rules.balanced)

    def check(self, deep: bool = False) -> None:
        """Refuse a file that changed since it was read.

        Args:
            deep: also decode the images of a beton and compare them with their hashes.

        Raises:
            MethodError: the content is another one.
            BetonError: the beton is damaged, or missing.
        """
        check_file(self.path, f"the file of external set {self.name}", ConfigError)
        if content_of(self.kind, self.path) != self.content:
            raise MethodError(f"{self.path}: changed after external set {self.name} was read; run the command again")
        problems = verify_beton(self.path, deep=True) if deep and self.kind == "beton" else []
        if problems:
            raise BetonError(f"{self.path}: {problems[0]}; fastdc verify-beton {self.path} --deep lists the damage")


def content_of(kind: Kind, path: Path) -> str:
    """Return the key of what the file of an external set holds; see `ExternalSet.content`."""
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
            f"external set {name.name}: {', '.join(given)} does not apply, an imported beton is used unchanged; "
            f"only protocol.KEY can be set{_CROP_ADVICE if 'augment' in given else ''}"
        )
    if name.kind == "scores" and "keep" not in given:
        raise ConfigError(f"external set {name.name}: keep is missing; add [keep=easy] or [keep=hard] to its file")
    rules = RULES[name.kind].make(given, f"external set {name.name}")
    check_file(name.path, f"the file of external set {name.name}", ConfigError)
    if not isinstance(rules, ListRules | ScoreRules):
        return _open_beton(name, rules, train, image_size)
    if rules.index_order == "own" and train.split:
        raise ConfigError(
            f"external set {name.name}: index_order=own does not apply with --holdout, which renumbers the images; "
            "name images by id or path"
        )
    try:
        return _open_list(name, rules, train, image_size) if isinstance(rules, ListRules) else _rank(name, rules, train)
    except (ConfigError, MethodError) as error:
        advice = "; with --holdout the training set is the part that is kept" if train.split else ""
        raise type(error)(f"external set {name.name}: {error}{advice}") from error


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
    _note_empty(name, manifest.counts, train)
    with BetonFile(path) as file:
        raw = ", raw pixels" if (file.modes == MODE_RAW).all() else ""
        sides = {int(side) for sides in (file.heights, file.widths) for side in (sides.min(), sides.max())}
    sized = "" if sides == {image_size} else f", images of {'-'.join(map(str, sorted({min(sides), max(sides)})))} px"
    note = f"beton {_shown(path)}{sized}{raw}{seen}"
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
    command = f"fastdc write-beton SOURCE OUT.beton --classes {train.path}"
    advice = f"give one of the training set's classes, which {command} makes"
    if set(map(one_spelling, manifest.classes)) == set(map(one_spelling, train.manifest.classes)):
        advice = f"write it again with --classes {train.path}"
    raise ConfigError(
        unknown or f"{name.path}: external set {name.name} does not fit {train.path}: {difference}; {advice}"
    )


def _open_list(name: ExternalName, rules: ListRules, train: TrainingSet, image_size: int) -> ExternalSet:
    content = file_key(name.path)
    found = read_list(name.path, train.manifest, train.labels, rules.index_order, _order_advice(train))
    check_side(name.path, found, image_size)
    if found.combined is not None:
        found.combined.mosaic(name.path, rules.fit)  # called for its check that the list records how they are combined
    counts = np.bincount(train.labels[found.sources[:, 0]], minlength=len(train.manifest.classes))
    hints = {} if found.combined is None else found.combined.hints
    _note_empty(name, counts.tolist(), train)
    return ExternalSet(*name[:3], rules, content, tuple(counts.tolist()), hints, f"list {_shown(name.path)}")


def _note_empty(name: ExternalName, counts: Sequence[int], train: TrainingSet) -> None:
    """Report classes without an image in a set."""
    empty = [label for label, count in zip(train.manifest.classes, counts, strict=True) if not count]
    if empty:
        shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        log_message(f"note: external set {name.name}: no image of {len(empty)} of {len(counts)} classes ({shown})")


def _shown(path: Path) -> Path:
    """Return the name of a file with its folder, because files in several folders may have one name."""
    return Path(*path.parts[-2:])


def _order_advice(train: TrainingSet) -> str:
    """Return what to do about indices of another order; with --holdout those of the beton count only its kept part."""
    own = ", or, where the indices count the images of the beton, add [index_order=own]"
    return BY_ID if train.split else BY_ID + own


def _rank(name: ExternalName, rules: ScoreRules, train: TrainingSet) -> ExternalSet:
    content = file_key(name.path)
    read_scores(  # called for its checks
        name.path,
        train.manifest,
        train.labels,
        name=rules.score,
        high=rules.high,
        index_order=rules.index_order,
        advice=_order_advice(train),
    )
    note = f"scores {_shown(name.path)}, keep={rules.keep}{'' if rules.balanced else ', balanced=false'}"
    return ExternalSet(*name[:3], rules, content, None, stored_hints(rules.augment, {}), note)
