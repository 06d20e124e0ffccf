"""Describe what a known image set holds, and find the first difference from it, by class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastdc.beton import Manifest
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.texts import Texts
from fastdc.common.errors import SourceError


@dataclass(frozen=True)
class Split:
    """Expected contents of one split.

    Attributes:
        name: "train" or "val".
        images: number in all classes together.
        per_class: the fewest and the most images of a class.
        exact: number of images of every class, if known.
        converted: number of files that cannot be copied as they are, per conversion ({"cmyk": 22}).
        repeated: number of images that equal an earlier one of the split byte for byte; None if unknown.
    """

    name: str
    images: int
    per_class: tuple[int, int]
    exact: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, int] = field(default_factory=dict)
    repeated: int | None = None


@dataclass(frozen=True)
class DataSet:
    """Expected contents of a data set.

    Attributes:
        name: name in manifests and folder names.
        title: name in messages.
        recipe: path of the script, recorded in every beton it writes.
        version: raised when the recipe would write other files than before.
        num_classes: number of classes.
        splits: expected contents of each split.
        classes: names of the classes, if the recipe knows them.
    """

    name: str
    title: str
    recipe: str
    version: int
    num_classes: int
    splits: tuple[Split, ...]
    classes: tuple[str, ...] = ()


def check_names(classes: Sequence[str], expected: Sequence[str], where: str, data: DataSet) -> None:
    """Refuse classes that the set does not have.

    Raises:
        SourceError: names the first such class.
    """
    known = set(expected)
    for name in classes:
        wordnet = len(name) == 9 and name[0] == "n" and name[1:].isdigit()
        if (known and name not in known) or not wordnet:
            example = expected[0] if expected else "n01440764"
            raise SourceError(
                f"{where}: {name!r} is not a class of {data.title}; expected folders named by WordNet id ({example}, "
                "...); fastdc write-beton takes any other layout"
            )


def select_classes(contents: Contents, chosen: Sequence[str], where: str) -> Contents:
    """Keep only the images of some classes; `chosen` must be sorted.

    Raises:
        SourceError: a chosen class is missing.
    """
    missing = [name for name in chosen if name not in contents.classes]
    if missing:
        raise SourceError(f"{where}: has no class {missing[0]!r}, which --classes names ({len(missing)} are missing)")
    places = {name: place for place, name in enumerate(chosen)}
    labels = np.array([places.get(name, -1) for name in contents.classes], np.int32)[contents.labels]
    kept = np.flatnonzero(labels >= 0)
    ids = Texts.of(contents.ids[number] for number in kept.tolist())
    folders = tuple(f"{name}/" for name in chosen)
    ignored = [path for path in contents.ignored if path.startswith(folders)]
    return contents._replace(classes=tuple(chosen), ids=ids, labels=labels[kept], ignored=ignored, order="own")


def find_problem(
    contents: Contents, data: DataSet, split: Split, selected: bool, expected: Sequence[str]
) -> str | None:
    """Describe the first difference from a split's expected contents; None if there is none."""
    if not selected and len(contents.classes) != data.num_classes:
        missing = [name for name in expected if name not in contents.classes]
        first = f", the first missing one is {missing[0]}" if missing else ""
        return f"{len(contents.classes):,} classes, {data.title} has {data.num_classes:,}{first}"
    counts = np.bincount(contents.labels, minlength=len(contents.classes)).tolist()
    for label, name in enumerate(contents.classes):
        fewest, most = (split.exact[name],) * 2 if name in split.exact else split.per_class
        count = counts[label]
        if not fewest <= count <= most:
            wanted = f"{fewest:,}" if fewest == most else f"{fewest:,}..{most:,}"
            off = f"{fewest - count:,} missing" if count < fewest else f"{count - most:,} too many"
            return f"class {name} has {count:,} images, expected {wanted}: {off}"
    total = len(contents.ids)
    if not selected and total != split.images:
        off = f"{split.images - total:,} missing" if total < split.images else f"{total - split.images:,} too many"
        fewest, most = split.per_class
        return (
            f"{total:,} images, expected {split.images:,}: {off} (each class has {fewest:,}..{most:,}, as it should, "
            "so the class is unknown)"
        )
    return None


def compare_odd_files(manifest: Manifest, repeated: int, data: DataSet, split: Split) -> Iterator[str]:
    """Yield the differences from the known numbers of odd files, which hint that the files were changed on the way."""
    for kind, expected in split.converted.items():
        found = manifest.converted.get(kind, 0)
        if found != expected:
            yield f"{found} images converted from {kind}, {data.title} {split.name} has {expected}"
    if split.repeated is not None and repeated != split.repeated:
        yield f"{repeated} images equal an earlier one, {data.title} {split.name} has {split.repeated} such"


def unreadable(manifest: Manifest) -> int:
    """Return the number of images that could not be read."""
    return sum(item.kind == "unreadable" for item in manifest.skipped)


def count_repeated(hashes: Sequence[str]) -> int:
    """Return how many stored images equal an earlier one, byte for byte; each hash has 32 hex digits."""
    digests = np.frombuffer(bytearray().join(map(bytes.fromhex, hashes)), "S16")
    digests = np.sort(digests)  # sorted, because a set of a million strings takes 150 MB
    return int(np.count_nonzero(digests[1:] == digests[:-1]))
