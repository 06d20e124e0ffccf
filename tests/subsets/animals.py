"""A small training set by its manifest alone."""

import numpy as np

from fastdc.beton import Manifest

LABELS = np.array([0, 0, 1, 1, 2], np.int64)
IDS = ("cat/1.jpg", "cat/with blank.jpg", "dog/1.jpg", "dog/2.jpg", "owl/x.jpg")


def animals() -> Manifest:
    return Manifest(
        dataset="animals",
        split="train",
        classes=("cat", "dog", "owl"),
        counts=(2, 2, 1),
        ids=IDS,
        hashes=("0",) * 5,
        source="x",
        made={},
        converted={},
        skipped=(),
        hints={},
        order="imagefolder",
        image_bytes=5,
        content_hash="0",
        file_bytes=5,
        structure_hash="0",
    )
