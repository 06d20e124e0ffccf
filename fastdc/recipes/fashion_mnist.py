"""Write Fashion-MNIST as betons: 60,000 train and 10,000 val images of 28 x 28, grey repeated to RGB, stored raw.

    python writers/fashion_mnist.py [--out data/fashion_mnist] [--source DIR] [--force]

The source is the four files of the Debian package dataset-fashion-mnist, or those that torchvision downloaded
(ROOT/FashionMNIST/raw). Without either they are downloaded (31 MB). Another run checks the existing betons and leaves
them unchanged.
"""

import argparse
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Sample, load_manifest, write_samples
from fastdc.beton.manifest import manifest_path, parse_manifest
from fastdc.common.errors import FastDCError, ManifestError, SourceError
from fastdc.recipes.download import Archive, get_archive
from fastdc.recipes.recipe import intact, print_lines

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt-top",  # "T-shirt/top" upstream, but folder and file names cannot contain a slash
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle-boot",
)
SIDE = 28
# Address and MD5s are those of torchvision 0.29 (torchvision.datasets.FashionMNIST).
ARCHIVES = tuple(
    Archive(f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}-ubyte.gz", md5)
    for name, md5 in (
        ("train-images-idx3", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1", "bb300cfdad3c16e7a12a480ee83cd310"),
    )
)
ADVICE = (
    "on Debian run `apt-get install dataset-fashion-mnist`, elsewhere fetch the four *-ubyte.gz files by other means "
    "and give their folder as --source (make demo: SOURCE=FOLDER)"
)
MADE = {"tool": "writers/fashion_mnist.py", "encoding": "raw", "recipe_version": 1}


class Split(NamedTuple):
    """One split: its name, the prefix of its files, images per class, and mean brightness (0..1)."""

    name: str
    prefix: str
    per_class: int
    mean: float


SPLITS = (Split("train", "train", 6000, 0.2860), Split("val", "t10k", 1000, 0.2868))


def main() -> None:
    """Run the command line; see `print_lines` for errors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/fashion_mnist"), help="folder for the betons")
    parser.add_argument(
        "--source", type=Path, help="folder of the four *-ubyte.gz files (default: Debian's, else fetched)"
    )
    parser.add_argument("--force", action="store_true", help="write again what is there already")
    arguments = parser.parse_args()
    print_lines(write_images(arguments.out, arguments.source, arguments.force), arguments.out)


def write_images(out: Path, source: Path | None, force: bool = False) -> Iterator[str]:
    """Write both splits unless they are there; yield a line about each.

    Args:
        out: folder for the betons, and for the four files if they are downloaded.
        source: folder of the four files; None takes Debian's or downloads them.
        force: write again what is there already.

    Raises:
        SourceError, OutputError: see `write_split`.
    """
    for split in SPLITS:
        yield write_split(split, out, source, force)


def write_split(split: Split, out: Path, source: Path | None, force: bool) -> str:
    """Write one split unless a sound file exists; return a one-line report.

    Raises:
        SourceError: the files are missing, damaged, or not Fashion-MNIST.
        OutputError: the beton cannot be written.
    """
    path = out / f"{split.name}.beton"
    if path.exists() and not force and is_current(path, split):
        return f"{path}: {intact(split.per_class * len(CLASSES))}"
    folder = find_source(source, out)
    images = read_idx(folder / f"{split.prefix}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{split.prefix}-labels-idx1-ubyte.gz", 1)
    check_counts(images, labels, split, folder)
    out.mkdir(parents=True, exist_ok=True)
    manifest = write_samples(
        path,
        make_samples(images, labels),
        classes=CLASSES,
        dataset="fashion_mnist",
        split=split.name,
        source="fashion-mnist",
        made=MADE,
        force=force or is_ours(path),
    )
    return f"{path}: written, {len(manifest.ids):,} images, {manifest.image_bytes / 1e6:.0f} MB"


def is_current(path: Path, split: Split) -> bool:
    """Return whether `path` is sound (structure and manifest agree) and is what this recipe would write."""
    try:
        manifest = load_manifest(path)
    except FastDCError:
        return False
    counts = (split.per_class,) * len(CLASSES)
    return (manifest.dataset, manifest.classes, manifest.counts, manifest.made) == (
        "fashion_mnist",
        CLASSES,
        counts,
        MADE,
    )


def is_ours(path: Path) -> bool:
    """Return whether this recipe made `path`, so that replacing a damaged or outdated file loses nothing."""
    try:
        return parse_manifest(manifest_path(path)).dataset == "fashion_mnist"
    except ManifestError:
        return False


def find_source(source: Path | None, out: Path) -> Path:
    """Return the folder of the four files: the given one, Debian's, or `out`, into which they are downloaded.

    Raises:
        SourceError: the folder does not have them, or they cannot be downloaded; the message explains how to get them.
        OutputError: a file cannot be stored.
    """
    folder = source or DEBIAN_FOLDER
    if (folder / ARCHIVES[0].name).is_file():
        return folder
    if source is not None:
        raise SourceError(
            f"{source}: no {ARCHIVES[0].name} there; give the folder of the four *-ubyte.gz files (on Debian `apt-get "
            "install dataset-fashion-mnist` brings them, torchvision keeps them in ROOT/FashionMNIST/raw), or leave "
            "--source out to fetch them"
        )
    for archive in ARCHIVES:
        get_archive(archive, out, ADVICE)
    return out


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes.

    Raises:
        SourceError: the file is missing, is not gzip, or has a wrong magic number or a length that its header
            contradicts.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error}); get the file again") from error
    header = 4 * (dimensions + 1)
    words = np.frombuffer(data[:header], ">u4")  # magic number (type 0x08, dimensions), then one size per dimension
    if len(words) != dimensions + 1 or words[0] != 0x0800 + dimensions:
        raise SourceError(f"{path}: not an IDX file of bytes in {dimensions} dimensions; get the file again")
    shape = tuple(int(word) for word in words[1:])
    if len(data) - header != int(np.prod(shape)):
        raise SourceError(f"{path}: {len(data) - header} bytes of data, its header says {shape}; get the file again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def check_counts(images: NDArray[np.uint8], labels: NDArray[np.uint8], split: Split, folder: Path) -> None:
    """Refuse images that are not Fashion-MNIST's, by shape, count and brightness; MNIST has the same file names.

    Raises:
        SourceError: wrong shape, wrong number of images in a class, or wrong mean brightness.
    """
    total = split.per_class * len(CLASSES)
    if images.shape != (total, SIDE, SIDE) or labels.shape != (total,):
        found = f"{list(images.shape)} images, {list(labels.shape)} labels"
        raise SourceError(f"{folder}: {split.prefix}: {found}; expected [{total}, {SIDE}, {SIDE}] and [{total}]")
    counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    if counts != [split.per_class] * len(CLASSES):
        raise SourceError(f"{folder}: {split.prefix}: images per class {counts}; expected {split.per_class} of each")
    mean = float(images.mean()) / 255
    if abs(mean - split.mean) > 0.0005:  # KMNIST has the same names, shapes and counts
        raise SourceError(f"{folder}: {split.prefix}: mean brightness {mean:.4f}, Fashion-MNIST has {split.mean:.4f}")


def make_samples(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Iterator[Sample]:
    """Yield the images in the order of the files; an id is the class and the position in the file."""
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        yield Sample(np.repeat(image[:, :, None], 3, axis=2), label, f"{CLASSES[label]}/{index:05d}")
