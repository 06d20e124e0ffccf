"""Real images and image folders, made with Pillow, for the tests of `fastdc.beton`."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from fastdc.beton import write_beton
from fastdc.common.errors import SourceError
from tests.processes import start_process

Pixels = NDArray[np.uint8]


def smooth(height: int, width: int, seed: int) -> Pixels:
    """Return a smooth random picture, which JPEG changes little."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | Pixels, kind: str = "JPEG", **options: Any) -> bytes:
    """Return `image` as the bytes of a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def resampled(pixels: Pixels, sampling: int) -> bytes:
    """A 4:1:1 JPEG of `pixels` whose frame says 0xHV for the sampling of luma; 0x14 is 4:4:1, as rotation leaves it.

    The coded blocks stay. Of sides that are multiples of 32, 4:4:1 has as many as 4:1:1: a whole picture of others.
    """
    data = bytearray(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90, "RGB", "411"))
    luma = data.index(b"\xff\xc0") + 11
    assert data[luma] == 0x41
    data[luma] = sampling
    return bytes(data)


def fill_folder(root: Path, classes: int = 3, images: int = 4, size: tuple[int, int] = (40, 56)) -> Path:
    """`root`/class_0/0.jpg, ... : JPEG files of `size` (height, width)."""
    for label in range(classes):
        (root / f"class_{label}").mkdir(parents=True)
        for number in range(images):
            data = encode(smooth(*size, seed=100 * label + number), quality=90)
            (root / f"class_{label}" / f"{number}.jpg").write_bytes(data)
    return root


def refused(tmp_path: Path, source: Path, words: str, **options: Any) -> None:
    """Check that `source` is refused with one line, and that nothing is left behind."""
    folder = tmp_path / "none"
    folder.mkdir(exist_ok=True)
    with pytest.raises(SourceError, match=words) as caught:
        write_beton(source, folder / "out.beton", **options)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an image folder of 3 classes with 4 JPEGs each."""
    return fill_folder(tmp_path / "images")


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    return fill_folder


@pytest.fixture
def make_picture() -> Callable[..., Pixels]:
    return smooth


@pytest.fixture
def jpeg_441() -> bytes:
    """Return a JPEG of 32 x 64 pixels, 4:4:1."""
    return resampled(smooth(32, 64, seed=7), 0x14)


@pytest.fixture
def to_file() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def start_python() -> Callable[..., "subprocess.Popen[str]"]:
    """Start a Python script in its own process, ready to be killed."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", script, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = start_process(command, text=True, env=dict(os.environ), **pipes)
        started.append(process)
        return process

    yield start  # type: ignore[misc]
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def jpegs(make_picture, to_file):
    """Return twelve different JPEG files."""
    return [to_file(make_picture(16, 20, seed), quality=90) for seed in range(12)]


@pytest.fixture
def hub(tmp_path, jpegs):
    """A set as on the hub: train in two shards of several row groups, validation in one; labels 0..2, no names."""
    from tests.beton.hub_shards import write_shard  # pyarrow, which may be missing

    root = tmp_path / "hub"
    labels = [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2]
    write_shard(root / "data/train-00000-of-00002.parquet", jpegs[:7], labels[:7], row_group_size=3)
    write_shard(root / "data/train-00001-of-00002.parquet", jpegs[7:], labels[7:], row_group_size=2)
    write_shard(root / "data/validation-00000-of-00001.parquet", jpegs[:3], [0, 1, 2])
    (root / "README.md").write_text("a set")
    return root
