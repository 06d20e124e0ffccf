"""The Fashion-MNIST recipe, on the real files."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from fastdc.beton import BetonFile, load_manifest, verify_beton
from fastdc.recipes import fashion_mnist
from fastdc.recipes.download import Archive

RECIPE = Path(__file__).parents[2] / "writers" / "fashion_mnist.py"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist"),
]


def run(*arguments):
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=80)


def idx(path, dimensions):
    data = gzip.decompress((DEBIAN / path).read_bytes())
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("recipe") / "new" / "fashion_mnist"
    result = run("--out", out)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture
def source(tmp_path):
    """Copy the four files, so that a test may damage them."""
    folder = tmp_path / "raw"
    shutil.copytree(DEBIAN, folder)
    return folder


@pytest.mark.parametrize(("split", "stem", "per_class"), [("train", "train", 6000), ("val", "t10k", 1000)])
def test_the_betons_hold_the_images_of_the_files(written, split, stem, per_class):
    path = written / f"{split}.beton"
    assert verify_beton(path, deep=True) == []
    manifest = load_manifest(path)
    assert (manifest.dataset, manifest.split, manifest.counts) == ("fashion_mnist", split, (per_class,) * 10)
    assert manifest.classes[0] == "T-shirt-top"
    assert len(set(manifest.ids)) == 10 * per_class
    labels = idx(f"{stem}-labels-idx1-ubyte.gz", 1)
    images = idx(f"{stem}-images-idx3-ubyte.gz", 3).reshape(-1, 28, 28)
    with BetonFile(path) as file:
        np.testing.assert_array_equal(file.labels, labels)
        for index in range(0, len(file), 997):
            np.testing.assert_array_equal(file.decode(index), images[index][:, :, None].repeat(3, axis=2))


def test_a_folder_that_cannot_be_made_is_named_in_one_line():
    result = run("--out", "/proc/nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: /proc/nowhere: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_second_run_keeps_sound_files_and_is_quick(written):
    before = {path: path.stat().st_mtime_ns for path in written.iterdir()}
    start = time.monotonic()
    result = run("--out", written)
    assert time.monotonic() - start < 5  # 0.3 s on an idle machine
    assert result.returncode == 0
    assert result.stdout.count("is there, its structure is sound") == 2
    assert {path: path.stat().st_mtime_ns for path in written.iterdir()} == before


@pytest.mark.slow  # writes both betons three times
def test_a_damaged_file_is_written_again_and_force_writes_both(written, tmp_path):
    for path in written.iterdir():
        shutil.copy(path, tmp_path)
    sound = (tmp_path / "val.beton").read_bytes()
    os.truncate(tmp_path / "val.beton", len(sound) - 24)
    result = run("--out", tmp_path)
    assert "train.beton: is there, its structure is sound" in result.stdout
    assert "val.beton: written, 10,000 images" in result.stdout
    assert (tmp_path / "val.beton").read_bytes() == sound
    result = run("--out", tmp_path, "--force")
    assert result.stdout.count(": written") == 2
    assert (tmp_path / "val.beton").read_bytes() == sound


def test_a_foreign_file_is_not_replaced(tmp_path):
    (tmp_path / "train.beton").write_bytes(b"precious")
    result = run("--out", tmp_path)
    assert result.returncode == 2
    assert "--force" in result.stderr
    assert (tmp_path / "train.beton").read_bytes() == b"precious"


@pytest.mark.slow  # writes 70,000 images again
def test_torchvisions_folder_is_taken(source, tmp_path):
    result = run("--out", tmp_path / "out", "--source", source)
    assert result.returncode == 0
    assert load_manifest(tmp_path / "out" / "val.beton").counts == (1000,) * 10


def test_the_error_about_a_missing_source_has_a_remedy(tmp_path):
    result = run("--out", tmp_path / "out", "--source", tmp_path)
    assert result.returncode == 2
    assert "apt-get install dataset-fashion-mnist" in result.stderr
    assert "torchvision" in result.stderr
    assert "leave --source out" in result.stderr
    assert result.stderr.count("\n") == 1


def damage(source, name, change):
    path = source / name
    path.write_bytes(gzip.compress(change(bytearray(gzip.decompress(path.read_bytes()))), 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "its header says"),
        (lambda data: b"\0\0\x08\x01" + data[4:], "not an IDX file"),
        (lambda data: data[:16] + bytes(len(data) - 16), "mean brightness 0.0000"),
        (lambda data: data[:4] + b"\0\0\0\x0a" + data[8 : 16 + 7840], "expected .60000, 28, 28"),
    ],
)
def test_other_images_are_refused(source, tmp_path, change, words):
    damage(source, "train-images-idx3-ubyte.gz", change)
    result = run("--out", tmp_path / "out", "--source", source)
    assert result.returncode == 2
    assert words.replace(".60000", "[60000") in result.stderr
    assert not (tmp_path / "out").exists()


def test_other_labels_and_cut_off_files_are_refused(source, tmp_path):
    damage(source, "train-labels-idx1-ubyte.gz", lambda data: data[:8] + bytes(60_000))
    assert "expected 6000 of each" in run("--out", tmp_path / "out", "--source", source).stderr
    os.truncate(source / "train-labels-idx1-ubyte.gz", 20)
    assert "get the file again" in run("--out", tmp_path / "out", "--source", source).stderr


def test_without_debians_package_the_published_files_are_fetched(tmp_path, monkeypatch):
    # Debian's package holds the same images with other compression, so its MD5s differ.
    local = [(DEBIAN / archive.name) for archive in fashion_mnist.ARCHIVES]
    published = tuple(Archive(path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest()) for path in local)
    monkeypatch.setattr(fashion_mnist, "ARCHIVES", published)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    assert fashion_mnist.find_source(None, tmp_path / "out") == tmp_path / "out"
    for path in DEBIAN.glob("*.gz"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_the_files_are_those_of_torchvision():
    assert [(archive.name, archive.md5) for archive in fashion_mnist.ARCHIVES] == FashionMNIST.resources
    assert {archive.url.removesuffix(archive.name) for archive in fashion_mnist.ARCHIVES} == set(FashionMNIST.mirrors)
