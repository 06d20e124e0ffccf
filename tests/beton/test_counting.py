"""The bytes that images count with: one rule for every source."""

import io

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import (
    BetonFile,
    Sample,
    count_image_bytes,
    describe_beton,
    holds_raw,
    load_manifest,
    png_bytes,
    write_beton,
    write_samples,
)
from fastdc.beton.manifest import manifest_path


def png_files(root, picture, to_file, mode="RGB"):
    """Write twelve PNGs of two classes; return the bytes that Pillow gives them."""
    total = 0
    for number in range(12):
        data = to_file(Image.fromarray(picture(30, 40, seed=number)).convert(mode), "PNG")
        path = root / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        total += len(data)
    return total


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("encoding", ["keep", "raw"])
def test_png_sources_count_as_their_pngs(tmp_path, make_picture, to_file, mode, encoding):
    expected = png_files(tmp_path / "in", make_picture, to_file, mode)
    write_beton(tmp_path / "in", tmp_path / "x.beton", encoding=encoding)
    assert count_image_bytes(tmp_path / "x.beton", load_manifest(tmp_path / "x.beton")) == expected
    assert holds_raw(tmp_path / "x.beton")


def test_the_same_images_count_alike_from_files_memory_and_stock_betons(tmp_path, make_picture, to_file):
    expected = png_files(tmp_path / "in", make_picture, to_file)
    write_beton(tmp_path / "in", tmp_path / "files.beton")
    with BetonFile(tmp_path / "files.beton") as file:
        samples = [Sample(file.decode(i), int(file.labels[i]), str(i)) for i in range(len(file))]
    memory = write_samples(
        tmp_path / "memory.beton", samples, classes=["a", "b"], dataset="x", split=None, source="x", made={}
    )
    assert memory.image_bytes == expected
    manifest_path(tmp_path / "files.beton").unlink()
    for name in ("files", "memory"):
        assert count_image_bytes(tmp_path / f"{name}.beton", describe_beton(tmp_path / f"{name}.beton")) == expected


def test_jpegs_count_unchanged_beside_converted_images(folder, tmp_path, make_picture, to_file):
    jpegs = sum(path.stat().st_size for path in folder.rglob("*.jpg"))
    (folder / "class_0" / "x.png").write_bytes(png := to_file(make_picture(9, 9, seed=0), "PNG"))
    manifest = write_beton(folder, tmp_path / "x.beton")
    assert count_image_bytes(tmp_path / "x.beton", manifest) == jpegs + len(png)
    (folder / "class_0" / "x.png").unlink()
    manifest = write_beton(folder, tmp_path / "jpegs.beton")
    assert count_image_bytes(tmp_path / "jpegs.beton", manifest) == manifest.image_bytes == jpegs
    assert not holds_raw(tmp_path / "jpegs.beton")


def test_grey_pixels_count_as_a_grey_png(make_picture):
    grey = Image.fromarray(make_picture(20, 30, seed=0)).convert("L")
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    assert png_bytes(np.asarray(grey.convert("RGB"))) == len(buffer.getvalue())


def test_a_rewritten_file_is_counted_again(tmp_path, make_picture, to_file):
    for seed in (0, 1):
        data = to_file(make_picture(20, 30, seed=seed), "PNG")
        (tmp_path / "in" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "a" / "x.png").write_bytes(data)
        manifest = write_beton(tmp_path / "in", tmp_path / "x.beton", force=True)
        assert count_image_bytes(tmp_path / "x.beton", manifest) == len(data)
