"""Read rankings made elsewhere: the images of a list in its order, or a score for every training image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.common.errors import MethodError
from fastdc.subsets.list_files import Line, read_array
from fastdc.subsets.lists import check_index_order, read_list

BY_ID = "name images by id or path"


@dataclass(frozen=True)
class TrainingLists:
    """Reader of files that rank the images of one training set; implements `fastdc.methods.bases.method.Lists`.

    Attributes:
        manifest: of the training set. labels: int64 [N], classes of its images.
    """

    manifest: Manifest
    labels: NDArray[np.int64]

    def images(self, path: Path) -> NDArray[np.int64]:
        """Return the training images that a list names, in its order, int64 [M]; for mosaics, their sources.

        Raises:
            MethodError: an entry does not fit the training set, or an image is named twice.
            ConfigError: the file cannot be read.
        """
        found = read_list(path, self.manifest, self.labels, advice=BY_ID).sources.ravel()
        values, counts = np.unique(found, return_counts=True)
        if (counts > 1).any():
            name = self.manifest.ids[values[counts > 1][0]]
            raise MethodError(f"{path}: names image '{name}' {counts.max()} times; name each image once")
        return found

    def scores(self, path: Path) -> NDArray[np.float64]:
        """Return the score of every training image, high = hard, float64 [N].

        An .npy file holds numbers [N] in the order of the training set. A text file has the columns id, class and
        score, as X.list.tsv does, with one line for every training image in any order.

        Raises:
            MethodError: an image is missing, an entry does not fit the training set, or a score is not finite.
            ConfigError: the file cannot be read.
        """
        if path.suffix == ".npy":
            return self._array(path)
        read = read_list(path, self.manifest, self.labels, advice=BY_ID)
        total, sources = len(self.manifest.ids), read.sources.ravel()
        scores = np.full(total, np.nan)
        scores[sources] = [_score(line) for line in read.lines]
        missing = np.flatnonzero(np.isnan(scores))
        if missing.size:
            raise MethodError(
                f"{path}: has a score for {total - missing.size:,} of {total:,} training images, '"
                f"{self.manifest.ids[missing[0]]}' is missing; score every image, or take the images of a list in its "
                "order with score=list:FILE"
            )
        return scores

    def _array(self, path: Path) -> NDArray[np.float64]:
        values, total = read_array(path, "numbers saved by np.save"), len(self.manifest.ids)
        if values.shape != (total,) or values.dtype.kind not in "fiu":
            found = f"{values.dtype} {list(values.shape)}"
            raise MethodError(f"{path}: holds {found}, expected numbers [{total}], one for every training image")
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise MethodError(f"{path}[{bad[0]}]: score {values[bad[0]]}, expected a finite number")
        check_index_order(path, self.manifest, "give scores as a text, with ids", "scores by index")
        return values.astype(np.float64)


def _score(line: Line) -> float:
    try:
        value = float(line.score)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise MethodError(
            f"{line.where}: score '{line.score[:80]}', expected a finite number in the third column, after id and class"
        )
    return value
