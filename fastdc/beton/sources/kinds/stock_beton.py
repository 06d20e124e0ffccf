"""Beton without a manifest: a file of stock FFCV."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from fastdc.beton.format import MODE_JPEG
from fastdc.beton.images import Rgb
from fastdc.beton.manifest import manifest_path
from fastdc.beton.reader import BetonFile
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.example_images import CLASSES, example_images
from fastdc.beton.sources.row_labels import RowLabels, name_rows, sort_rows
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.texts import Texts
from fastdc.beton.writer import Sample, write_samples
from fastdc.common.errors import BetonError, SourceError


class StockImages:
    """Images of a beton, whose ids are their numbers.

    Args:
        beton: the opened file.
        options: `classes` is read.

    Attributes:
        name: name of the file.
        contents: classes and images. Images with an invalid label are included; reading one raises the reason.
        made: for the manifest.

    Raises:
        SourceError: see `name_rows`.
    """

    def __init__(self, beton: BetonFile, options: SourceOptions) -> None:
        self._beton = beton
        self._rows = name_rows(RowLabels(beton.labels, None), options.classes, beton.path, str)
        self.name = beton.path.resolve().name
        ids = Texts.of(map(str, range(len(beton))))
        self.contents = Contents("", self._rows.classes, ids, self._rows.labels, [], self._rows.empty)
        self.made = {"class_names": self._rows.named}

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Callable[[], bytes | Rgb]]]:
        """Yield a reader for each path; see `Tree`. Images with an invalid label come first."""
        rows = np.fromiter(map(int, paths), np.int64)
        refused, order = sort_rows(rows, self._rows.labels, self._rows.reason)
        yield from refused
        yield from ((place, partial(self._read, int(rows[place]))) for place in order.tolist())

    def _read(self, number: int) -> bytes | Rgb:
        jpeg = self._beton.modes[number] == MODE_JPEG
        return bytes(self._beton.payload(number)) if jpeg else self._beton.decode(number)


class StockBeton(Source):
    """Beton of stock FFCV, whose images are copied and whose classes get names."""

    name = "beton"
    title = "a .beton without a manifest, as stock FFCV writes it"
    rank = 20

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a file that ends in .beton."""
        return path.suffix.lower() == ".beton" and path.is_file()

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. A beton may always lack images of some classes.

        Raises:
            SourceError: it has a manifest, or no splits although one was requested. Or it is damaged, or has other
                fields than `image` and `label`.
        """
        if manifest_path(path).exists():
            raise SourceError(
                f"{path}: has a manifest, so every command takes it as it is; to change its images or classes, write "
                f"it as a folder first: fastdc export {path} FOLDER --as folder, then remove FOLDER/fastdc.json"
            )
        if options.split is not None:
            raise SourceError(f"{path}: names no splits, but {options.split!r} was requested; omit --split")
        try:
            file = BetonFile(path)
        except BetonError as error:
            raise SourceError(str(error)) from error
        with file as beton:
            images = StockImages(beton, options)
            yield Opened(path, images, images.contents, path.stem, None, images.made)

    def example(self, folder: Path) -> Path:
        path = folder / "stock.beton"
        samples = (Sample(data, CLASSES.index(name), file) for name, file, data in example_images())
        write_samples(path, samples, classes=CLASSES, dataset="stock", split=None, source="", made={})
        manifest_path(path).unlink()
        return path


SOURCE = StockBeton()
