"""Read rankings made elsewhere: the images of a list in its order, or a score for every training image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.common.errors import MethodError
from fastdc.subsets.lists import read_list
from fastdc.subsets.score_files import read_scores

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
            name, count = self.manifest.ids[values[counts > 1][0]], counts[counts > 1][0]
            raise MethodError(f"{path}: names image '{name}' {count} times; name each image once")
        return found

    def scores(self, path: Path, column: str | None = None) -> NDArray[np.float64]:
        """Return the score of every training image, high = hard, float64 [N].

        See `fastdc.subsets.score_files.read_scores` for the files. Without `column`, the file must have a single score.

        Raises:
            MethodError: an image is missing, an entry does not fit the training set, or a score is not finite.
            ConfigError: the file cannot be read, or has no such column.
        """
        return read_scores(path, self.manifest, self.labels, name=column, high="hard", advice=BY_ID).values
