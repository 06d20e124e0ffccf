"""Betons of every kind that a loader must handle, small enough to be read many times."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastdc.beton import Sample, write_samples

Rgb = NDArray[np.uint8]
SAMPLES = 23


def picture(height: int, width: int, seed: int) -> Rgb:
    """Return a smooth random picture with some grain, part of which JPEG loses."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + generator.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


def jpeg(image: Rgb, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).convert(mode).save(out, "JPEG", quality=85, **options)
    return out.getvalue()


def write(path: Path, images: Iterable[Rgb | bytes]) -> Path:
    """Write a beton of `images` with the labels 0, 1, 2, 0, 1, 2, ..."""
    samples = [Sample(image, number % 3, f"{number}") for number, image in enumerate(images)]
    write_samples(
        path, samples, classes=("a", "b", "c"), dataset="test", split=None, source="test", made={}, force=True
    )
    return path


def mixed_images() -> list[Rgb | bytes]:
    """Return images of every coding and shape: thin, tiny, large; raw, grey, progressive, all subsamplings."""
    shapes = [(40, 60), (61, 43), (100, 100), (9, 150), (150, 9), (1, 1), (3, 2), (233, 177)]
    kinds = [
        lambda image: image,
        lambda image: jpeg(image, subsampling="4:4:4"),
        lambda image: jpeg(image, subsampling="4:2:2"),
        lambda image: jpeg(image, subsampling="4:2:0"),
        lambda image: jpeg(image, mode="L"),
        lambda image: jpeg(image, progressive=True, subsampling="4:2:0"),
        lambda image: jpeg(image, optimize=True, restart_marker_rows=1),
    ]
    return [kinds[k % len(kinds)](picture(*shapes[k % len(shapes)], k)) for k in range(len(kinds) * len(shapes))]


class Shelf(NamedTuple):
    """Paths of the betons."""

    jpeg: Path
    grey: Path
    raw: Path
    mixed: Path


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("shelf")
    pictures = [picture(48, 64, seed) for seed in range(SAMPLES)]
    return Shelf(
        write(folder / "jpeg.beton", [jpeg(image) for image in pictures]),
        write(folder / "grey.beton", [jpeg(image, mode="L") for image in pictures]),
        write(folder / "raw.beton", pictures),
        write(folder / "mixed.beton", mixed_images()),
    )
