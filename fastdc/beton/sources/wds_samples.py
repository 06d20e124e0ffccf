"""Group the files of WebDataset tars into samples, and read their labels.

A million samples take about 80 MB: their ids and a few numbers each.
"""

import json
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.beton.sources.row_labels import NO_LABEL, NUMBER
from fastdc.beton.sources.wds_shards import LABELS, Part, is_picture, open_tar, read_parts
from fastdc.beton.texts import Texts, one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

_JSON_NAMES = ("label", "cls", "class", "class_id")
_MAX_LABEL_BYTES = 1 << 20


@dataclass
class Samples:
    """Samples of all shards.

    Attributes:
        ids: per sample, SHARD:KEY.SUFFIX of its image.
        offsets, sizes: where the image's bytes lie in its shard, unpacked.
        shards: number of the shard.
        labels: place of the label in `texts`; `NO_LABEL` if the sample is not usable.
        reasons: why samples are not usable.
        texts: the different labels, all numbers or all names.
        suffixes: suffixes of the files that held labels.
    """

    ids: Texts = field(default_factory=lambda: Texts.of(()))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    shards: "array[int]" = field(default_factory=lambda: array("l"))
    labels: "array[int]" = field(default_factory=lambda: array("q"))
    reasons: dict[int, str] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    suffixes: set[str] = field(default_factory=set)

    def key(self, row: int, shard: str) -> str:
        """Return the key of a sample of a shard."""
        folder, slash, name = self.ids[row][len(shard) + 1 :].rpartition("/")
        return folder + slash + name.partition(".")[0]


def scan_shards(folder: Path, shards: list[str]) -> Samples:
    """Read the names and labels of all samples of some shards.

    Raises:
        SourceError: a shard is truncated or no tar; a key occurs twice; or some labels are names and others numbers.
    """
    found = Samples()
    hashes = array("q")

    def ids() -> Iterator[str]:
        for number, shard in enumerate(shards):
            for key, name in _scan_shard(folder / shard, number, found):
                hashes.append(hash(key))
                yield f"{shard}:{name}"

    found.ids = Texts.of(ids())
    _check_unique(np.array(hashes, np.int64), found, shards, folder)
    return found


def _scan_shard(path: Path, number: int, found: Samples) -> Iterator[tuple[str, str]]:
    """Yield the key and the image's name of each sample of a shard, and add what else is known to `found`."""
    last = ""
    try:
        with open_tar(path) as archive:
            parts = ((part, _label_text(archive, part)) for part in read_parts(archive))
            for key, group in groupby(parts, lambda pair: pair[0].key):
                last = key
                sample = list(group)
                images = [part for part, _ in sample if is_picture(part.suffix)]
                texts = {part.suffix: text for part, text in sample if text is not None}
                if images or texts:
                    yield key, _add_sample(path, number, key, images, texts, found)
    except DAMAGE as error:
        where = f"after sample {last!r}" if last else "at its start"
        raise SourceError(
            f"{path}: is truncated or damaged {where} ({one_line(error)}); get the shard again"
        ) from error


def _label_text(archive: tarfile.TarFile, part: Part) -> bytes | None:
    """Return the bytes of a file that may hold a label; None for others. A stream has to be read now."""
    if part.suffix not in LABELS or part.member.size > _MAX_LABEL_BYTES:
        return None
    stream = archive.extractfile(part.member)
    return b"" if stream is None else stream.read()


def _add_sample(path: Path, number: int, key: str, images: list[Part], texts: dict[str, bytes], found: Samples) -> str:
    """Add one sample to `found`, and return the name of its image, or its key if there is no one image."""
    plain = [part for part in images if "." not in part.suffix] or images
    label = next(((suffix, value) for suffix in LABELS if (value := _parse_label(suffix, texts)) is not None), None)
    if len(plain) != 1 or label is None:
        held = ", ".join(sorted({*texts, *(part.suffix for part in images)}))
        lacking = "no label that can be read" if plain else "no image"
        lacking = "several images" if len(plain) > 1 else lacking
        found.reasons[len(found.labels)] = f"a sample of {held}: {lacking}, expected an image and .cls or .json"
        found.labels.append(NO_LABEL)
    else:
        found.suffixes.add(label[0])
        found.labels.append(_number_label(label[1], key, path, found))
    found.shards.append(number)
    found.offsets.append(plain[0].member.offset_data if plain else 0)
    found.sizes.append(plain[0].member.size if plain else 0)
    return f"{key}.{plain[0].suffix}" if len(plain) == 1 else key


def _number_label(label: str, key: str, path: Path, found: Samples) -> int:
    """Return the place of a label in `found.texts`.

    Raises:
        SourceError: it is a name where others are numbers, or the other way round.
    """
    numbered = next((NUMBER.fullmatch(text) is not None for text in found.texts), None)
    if numbered is not None and numbered != bool(NUMBER.fullmatch(label)):
        raise SourceError(
            f"{path}: sample {key!r} has the label {label!r}, but those before have "
            f"{'numbers' if numbered else 'names'}; use one or the other in all shards"
        )
    return found.texts.setdefault(label, len(found.texts))


def _parse_label(suffix: str, texts: dict[str, bytes]) -> str | None:
    """Return the number or name of a class that a file states; None if there is no such file, or it states none."""
    if suffix not in texts:
        return None
    try:
        if suffix == "json":
            content = json.loads(texts[suffix])
            stated = next((content[name] for name in _JSON_NAMES if name in content), None)
            text = str(stated) if isinstance(stated, int | str) and not isinstance(stated, bool) else ""
        else:
            text = texts[suffix].decode()
    except (ValueError, TypeError, RecursionError):
        return None
    text = text.strip()
    return one_spelling(text) if text and text.isprintable() else None


def _check_unique(hashes: NDArray[np.int64], found: Samples, shards: list[str], folder: Path) -> None:
    """Refuse a key that two samples have.

    Raises:
        SourceError: names the key and both shards.
    """
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(np.diff(hashes[order]) == 0).tolist():
        first, second = (int(row) for row in order[place : place + 2])
        one, other = shards[found.shards[first]], shards[found.shards[second]]
        if found.key(first, one) == found.key(second, other):
            where = f"twice in {one}" if one == other else f"in {one} and in {other}"
            raise SourceError(
                f"{folder}: key {found.key(first, one)!r} is {where}, expected one sample per key, its files side by "
                "side; keep shards of one version only"
            )
