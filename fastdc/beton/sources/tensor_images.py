"""Read images from arrays of pixels, one by one: tensors that were released with their labels."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.images import Rgb
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.levels import find_levels
from fastdc.beton.sources.named_arrays import read_labels
from fastdc.beton.sources.row_labels import RowLabels, name_rows, sort_rows
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.tensor_pairs import Pair
from fastdc.beton.texts import Texts
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

MANY_CLIPPED = 0.03
"""Share of clipped values from which a wrong standardisation is the likely reason."""
MOST_CLIPPED = 0.25
"""Share of clipped values from which the images are lost, so that they are refused."""


class TensorImages:
    """Images of a pair of arrays. Their ids are ARRAY:ROW.

    Args:
        path: path of the source.
        pair: its arrays.
        options: `classes`, `mean` and `std` are read.

    Attributes:
        name: the source's name.
        contents: classes and rows. Rows with an invalid label are included; reading one raises the reason.
        made: for the manifest.

    Raises:
        SourceError: the arrays are no images and labels, or need `mean` and `std`.
    """

    def __init__(self, path: Path, pair: Pair, options: SourceOptions) -> None:
        self.name = path.resolve().name
        self._images, self._name = pair.images, pair.name
        shape, dtype, where = pair.images.shape, pair.images.dtype, pair.images.where
        self._levels = find_levels(shape, dtype, options.mean, options.std, where)
        rows = shape[0]
        codes = read_labels(pair.labels.whole(), rows, pair.labels.where)
        found = RowLabels(codes, None, pair.classes, "source")
        self._rows = name_rows(found, options.classes, path, self._id)
        ids = Texts.of(map(self._id, range(rows)))
        self.contents = Contents("", self._rows.classes, ids, self._rows.labels, [], self._rows.empty)
        self.made = {"arrays": self._name, "class_names": self._rows.named, **pair.made}
        if self._levels.linear is not None:
            self.made |= {"clipped": self._count_clipped(options.mean is not None)}
        if options.mean is not None and options.std is not None:
            self.made |= {"mean": list(options.mean), "std": list(options.std)}

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Callable[[], Rgb]]]:
        """Yield a reader for each path; see `Tree`. Rows with an invalid label come first, then the order is the rows'.

        Raises:
            SourceError: the file is damaged.
        """
        rows = np.fromiter((int(path.rpartition(":")[2]) for path in paths), np.int64)
        refused, order = sort_rows(rows, self._rows.labels, self._rows.reason)
        yield from refused
        place = 0
        for row, image in enumerate(self._images.rows()):
            while place < len(order) and rows[order[place]] == row:
                yield int(order[place]), partial(self._levels.to_rgb, image)
                place += 1

    def _count_clipped(self, standardised: bool) -> int:
        """Return how many values leave 0..255, and report them.

        Raises:
            SourceError: there are such values, but no standardisation to undo.
        """
        clipped, values = 0, 0
        for row, image in enumerate(self._images.rows()):
            outside = self._levels.count_outside(image)
            if outside and not standardised:
                raise SourceError(
                    f"{self._images.where}: row {row} has values of {_span(image)}, expected 0 to 1; if the images are "
                    "standardised, give --mean and --std, which undo it (on a scale of 0..1); levels of 0 to "
                    "255 take --mean 0 --std 0.0039215686 (1/255), or are saved as uint8"
                )
            clipped, values = clipped + outside, values + image.size
        if clipped:
            many = clipped / values > MANY_CLIPPED
            advice = "; these are most likely not the mean and deviation of the file, check them" if many else ""
            found = f"{clipped:,} of {values:,} values ({clipped / values:.2%}) are outside 0..255"
            if clipped / values > MOST_CLIPPED:
                raise SourceError(f"{self._images.where}: {found} after --mean and --std{advice}")
            where = f"{'warning' if many else 'note'}: {self._images.where}"
            log_message(f"{where}: {found} after --mean and --std; clipped{advice}")
        return clipped

    def _id(self, row: int) -> str:
        return f"{self._name}:{row}"


def _span(image: NDArray[Any]) -> str:
    return f"{image.min():.4g} to {image.max():.4g}"
