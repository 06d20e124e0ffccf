"""Storage of compressed sets: counted bytes, and names of samples."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastdc.beton import BetonFile, describe_beton, load_manifest, verify_beton
from fastdc.methods import Compressed
from fastdc.subsets.store_subset import store_compressed


def store(betons: Any, out: Path, **changes: Any) -> list[np.ndarray]:
    """Store six images of noise, two of each class."""
    images = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8) for i in range(6)]
    labels = np.repeat(np.arange(3), 2)
    made = Compressed(labels, np.empty((6, 0), np.int64), lambda: iter(images), **changes)
    with BetonFile(betons.train) as beton:
        store_compressed(out, made, beton, describe_beton(betons.train), "crop", 16, {}, False)
    return images


def test_png_is_lossless_and_counts_as_png(betons: Any, tmp_path: Path) -> None:
    out = tmp_path / "png.beton"
    images = store(betons, out, encoding="png")
    expected = 0
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        expected += len(buffer.getvalue())
    with BetonFile(out) as beton:
        assert all(np.array_equal(beton.decode(i), image) for i, image in enumerate(images))
        assert load_manifest(out).image_bytes == expected != beton.payload_bytes
    assert verify_beton(out, deep=True) == []


def test_images_from_noise_are_named_by_class_and_number(betons: Any, tmp_path: Path) -> None:
    out = tmp_path / "jpg.beton"
    store(betons, out)
    manifest = load_manifest(out)
    assert len(set(manifest.ids)) == 6
    assert manifest.ids[2] == f"{manifest.classes[1]}/made-000002"
    with BetonFile(out) as beton:
        assert manifest.image_bytes == beton.payload_bytes
        assert (beton.modes == 0).all()
