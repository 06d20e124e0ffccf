"""The interface of a layout, and the images that it writes."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from fastdc.beton.encode_images import encode_png
from fastdc.beton.exported import RECORD, Exported, dump_record
from fastdc.beton.format import MODE_JPEG
from fastdc.beton.manifest import Manifest
from fastdc.beton.reader import BetonFile
from fastdc.beton.texts import one_spelling
from fastdc.common.errors import BetonError, OutputError
from fastdc.common.keys import bytes_key
from fastdc.common.log import progress


class ImageFile(NamedTuple):
    """One image of the set as a file.

    Attributes:
        number: number of the sample.
        key: the number with leading zeros, so that names sort as samples do.
        suffix: "jpg" for the stored JPEG, "png" for raw pixels.
        label: class index.
        data: bytes of the file.
    """

    number: int
    key: str
    suffix: str
    label: int
    data: bytes


IMAGE_FILE = re.compile(r"\d{4,}\.(jpg|png)")
"""Name of the file of an `ImageFile`."""


@dataclass(frozen=True)
class ExportSet:
    """The images to export, with what is known about them.

    Attributes:
        path: the beton.
        beton: the opened beton.
        manifest: its manifest.
        name: name of the output, without suffix, for files inside it and for titles.
        references: BibTeX entries to cite.
    """

    path: Path
    beton: BetonFile
    manifest: Manifest
    name: str
    references: Sequence[str] = field(default=())

    def indices(self) -> Iterator[int]:
        """Yield the sample numbers in order, each once its bytes are found to be those of the manifest.

        Raises:
            BetonError: a sample's bytes have changed.
        """
        with progress(f"export {self.path.name}", len(self.beton)) as bar:
            for index in range(len(self.beton)):
                if bytes_key(self.beton.payload(index)) != self.manifest.hashes[index]:
                    raise BetonError(
                        f"{self.path}: sample {index} ({self.manifest.ids[index]}): its bytes are not those that were "
                        "written; nothing is exported. Copy or make the beton again"
                    )
                yield index
                bar.advance(1)

    def images(self) -> Iterator[ImageFile]:
        """Yield every image as a file, in the order of the samples: JPEGs unchanged, raw pixels as PNG.

        Raises:
            BetonError: a sample's bytes have changed.
        """
        digits = max(4, len(str(len(self.beton) - 1)))
        for index in self.indices():
            jpeg = self.beton.modes[index] == MODE_JPEG
            data = bytes(self.beton.payload(index)) if jpeg else encode_png(self.beton.decode(index))
            key, suffix = f"{index:0{digits}d}", "jpg" if jpeg else "png"
            yield ImageFile(index, key, suffix, int(self.beton.labels[index]), data)

    def shard_lengths(self, most: int) -> list[int]:
        """Return the number of images of each shard, so that a shard holds at most `most` bytes of payloads.

        A larger image has its own shard.
        """
        lengths, size = [0], 0
        for more in self.beton.sizes.tolist():
            if lengths[-1] and size + more > most:
                lengths.append(0)
                size = 0
            lengths[-1] += 1
            size += more
        return lengths


def check_class_list(images: ExportSet) -> None:
    """Refuse class names that are alike in a plain list.

    Raises:
        OutputError: two names look alike, or one is blank or more than one line.
    """
    seen: set[str] = set()
    for name in images.manifest.classes:
        line = one_spelling(" ".join(name.split()))
        if line in seen or not line or len(name.splitlines()) > 1:
            found = "classes look alike" if line in seen else "some class names are blank or span several lines"
            raise OutputError(
                f"{images.path}: {found}, such as {name!r}, expected names that a list can hold; use --as folder, "
                "which numbers such names"
            )
        seen.add(line)


class Layout(ABC):
    """Base class of layouts; each is one file in `fastdc/beton/export/layouts`.

    Attributes:
        name: lower-case letters and digits.
        title: one line for lists: what is written.
        suffix: suffix of the output if it is one file; None if it is a folder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str | None] = None

    @abstractmethod
    def write(self, images: ExportSet, place: Path) -> None:
        """Write the images and the record of the export.

        Args:
            place: an empty folder, or an empty file if `suffix` is given.

        Raises:
            BetonError: a sample's bytes have changed, or do not decode.
            OutputError: this set has no such layout.
        """

    def may_hold(self, name: str, record: Exported) -> bool:
        """Return whether an export to a folder may have written a file; --force removes no other.

        Args:
            name: path of the file, relative to the export's folder, with slashes.
            record: record of the export. Its own file is not asked for.
        """
        return False

    def notes(self, images: ExportSet, out: Path) -> list[str]:
        """Return lines for the user: what a reader of the export has to know, or a command to run."""
        return []


def write_record(
    images: ExportSet, layout: str, place: Path, files: int, split: str | None = None, folders: Sequence[str] = ()
) -> None:
    """Write the record beside the images; see `Exported`.

    Args:
        files: number of files written so far.
    """
    record = Exported(
        layout=layout, split=split, folders=tuple(folders) or None, files=files + 1, manifest=images.manifest
    )
    with (place / RECORD).open("wb") as handle:
        handle.writelines(dump_record(record))
