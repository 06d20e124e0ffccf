"""Prepare the files of the races: made once from Imagenette-160 or Fashion-MNIST, kept, and shared by all contenders.

Imagenette's photographs have 160 px on their shorter side, so the 224-px sets are enlarged from them. They have as
many bytes to read and pixels to decode as real images of that size, but look softer.
"""

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness.script import CHECKOUT, Options
from PIL import Image

from fastdc.beton import write_beton
from fastdc.common.tars import add_file

FASHION = Path("/usr/share/datasets/fashion-mnist")
BILINEAR = Image.Resampling.BILINEAR
VERSION = 2
"""Version of the prepared files, raised when their content changes under the same names."""


class Picture(NamedTuple):
    """Source image: its class (folder name), its name, and the file's bytes."""

    label: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Sizes:
    """Largest number of images per class in each set of ten classes."""

    photos: int = 10_000
    loaded: int = 240
    odd: int = 200
    compressed: int = 200
    pool: int = 30
    small_train: int = 10
    fashion_val: int = 7
    photos_val: int = 3


QUICK = Sizes(photos=12, loaded=12, odd=6, compressed=12, pool=6, small_train=4, fashion_val=4, photos_val=4)


class Prepared:
    """Prepared sets, each made on first use.

    Attributes:
        source: "imagenette" or "fashion_mnist". folder: folder of all sets.
    """

    def __init__(self, options: Options) -> None:
        self.sizes = QUICK if options.quick else Sizes()
        self._tar = None if options.quick else find_imagenette(options.imagenette)
        self.source = "imagenette" if self._tar else "fashion_mnist"
        self.folder = options.data / f"{self.source}-{VERSION}"

    @property
    def description(self) -> str:
        """Return a description of the 224-px images for the rows' notes."""
        if self.source == "imagenette":
            return "Imagenette-160 enlarged to 224 px and cropped square, JPEG q90"
        return "Fashion-MNIST enlarged to 224 px, JPEG q90"

    def photos(self) -> Path:
        """Return all training images at 224 x 224, JPEG q90 4:2:0, one folder per class."""
        return self._folder("photos224", self.sizes.photos, "train", lambda image, _: square(image, 224))

    def loaded(self) -> Path:
        """Return the part of `photos` that the loaders read, as a folder."""
        return self._folder("loaded224", self.sizes.loaded, "train", lambda image, _: square(image, 224))

    def odd(self) -> Path:
        """Return square images with sides of 160 to 500 px, JPEG q90.

        FFCV limits the longer side and fastdc the shorter one, so both make the same pixels only from square images.
        """
        return self._folder("odd160-500", self.sizes.odd, "train", lambda image, number: square(image, side_of(number)))

    def compressed(self) -> Path:
        """Return a compressed set as `compress` stores it: 224 x 224, JPEG q75."""
        return self._folder("compressed224", self.sizes.compressed, "train", lambda image, _: square(image, 224), 75)

    def pool(self) -> Path:
        """Return candidates of a patch method: 224 x 224, JPEG q90."""
        return self._folder("pool224", self.sizes.pool, "train", lambda image, _: square(image, 224))

    def small_photos(self) -> Path:
        """Return a compressed set for small networks: ten images per class at 64 x 64, JPEG q75."""
        return self._folder("photos64", self.sizes.small_train, "train", lambda image, _: square(image, 64), 75)

    def small_photos_val(self) -> Path:
        """Return a few validation images of each class, unchanged."""
        return self._folder("photos64-val", self.sizes.photos_val, "val", None)

    def fashion(self, per_class: int, split: str = "train") -> Path:
        """Return Fashion-MNIST at 28 x 28: JPEG q75 for training, PNG (lossless) for validation."""
        quality = 75 if split == "train" else 0
        return self._make(
            f"fashion28-{split}-{per_class}",
            lambda out: save_all(fashion_pictures(split, per_class), out, lambda image, _: image, quality),
        )

    def beton(self, folder: Path, encoding: str = "keep") -> Path:
        """Return `folder` as a beton."""
        out = self.folder / f"{folder.name}-{encoding}.beton"
        if not out.exists():
            write_beton(folder, out, encoding=encoding)  # type: ignore[arg-type]
        return out

    def shards(self, folder: Path, images: int = 500) -> list[str]:
        """Return `folder` as tar shards for WebDataset, with NAME.jpg beside NAME.cls."""
        out = self._make(f"{folder.name}-shards", lambda path: write_shards(folder, path, images))
        return sorted(str(path) for path in out.glob("*.tar"))

    def _folder(
        self,
        name: str,
        per_class: int,
        split: str,
        change: Callable[[Image.Image, int], Image.Image] | None,
        quality: int = 90,
    ) -> Path:
        def make(out: Path) -> None:
            pictures = read_imagenette(self._tar, split) if self._tar else fashion_pictures(split, per_class)
            save_all(first_of_each(pictures, per_class), out, change, quality)

        return self._make(name, make)

    def _make(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the folder `name`, made atomically if it does not exist."""
        out = self.folder / name
        if not out.exists():
            spare = out.with_name(f"{name}.{os.getpid()}.tmp")
            shutil.rmtree(spare, ignore_errors=True)
            spare.mkdir(parents=True)
            print(f"    preparing {out}", flush=True)
            make(spare)
            spare.rename(out)
        return out


def find_imagenette(given: Path | None) -> Path | None:
    """Find Imagenette-160 as a tar or folder; return None if there is none.

    The order is: `given`, FASTDC_IMAGENETTE, the checkout's data folder, a shared tar beside the checkout.

    Raises:
        SystemExit: the given path does not exist.
    """
    named = given or (Path(os.environ["FASTDC_IMAGENETTE"]) if os.environ.get("FASTDC_IMAGENETTE") else None)
    if named is not None:
        if not named.exists():
            raise SystemExit(f"error: {named}: no such tar or folder; give Imagenette-160's, or leave it out")
        return named
    folder, tar = CHECKOUT / "data" / "imagenette", CHECKOUT.parent / "shared" / "data" / "imagenette2-160.tar"
    if (folder / "train").is_dir():
        return folder
    return tar if tar.is_file() else None


def read_imagenette(source: Path, split: str) -> Iterator[Picture]:
    """Yield the images of one split, in order of class and name."""
    if source.is_dir():
        for path in sorted((source / split).glob("*/*")):
            yield Picture(path.parent.name, path.stem, path.read_bytes())
        return
    with tarfile.open(source) as archive:
        members = (member for member in archive.getmembers() if member.isfile() and f"/{split}/" in member.name)
        for member in sorted(members, key=lambda member: member.name):
            path, handle = Path(member.name), archive.extractfile(member)
            assert handle is not None, "it is a file"
            yield Picture(path.parent.name, path.stem, handle.read())


def fashion_pictures(split: str, per_class: int) -> Iterator[Picture]:
    """Yield the first images of every class of Fashion-MNIST, as PNG.

    Raises:
        SystemExit: Debian's package is not installed.
    """
    stem = "train" if split == "train" else "t10k"
    images, labels = (FASHION / f"{stem}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1"))
    if not images.is_file():
        raise SystemExit(f"error: {images}: not there; run `apt-get install dataset-fashion-mnist`")
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    classes = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    for label in range(10):
        for number in np.flatnonzero(classes == label)[:per_class]:
            out = io.BytesIO()
            Image.fromarray(pixels[number]).convert("RGB").save(out, "PNG")
            yield Picture(f"class{label}", f"{number:05d}", out.getvalue())


def first_of_each(pictures: Iterable[Picture], per_class: int) -> Iterator[Picture]:
    """Yield at most `per_class` pictures of each class."""
    seen: dict[str, int] = {}
    for picture in pictures:
        seen[picture.label] = seen.get(picture.label, 0) + 1
        if seen[picture.label] <= per_class:
            yield picture


def side_of(number: int) -> int:
    """Return a side between 160 and 500 px, evenly distributed and without visible order."""
    return 160 + number * 2_654_435_761 % 341  # Knuth's multiplicative hash


def square(image: Image.Image, side: int) -> Image.Image:
    """Return the central square of an image, resized to `side` x `side`."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((side, side), BILINEAR, (left, top, left + edge, top + edge))


def save_all(
    pictures: Iterable[Picture], out: Path, change: Callable[[Image.Image, int], Image.Image] | None, quality: int
) -> None:
    """Store pictures as out/label/name: changed and encoded (`quality` 0: PNG), or untouched if `change` is None."""

    def save(number: int, picture: Picture) -> None:
        folder = out / picture.label
        folder.mkdir(exist_ok=True)
        if change is None:
            (folder / f"{picture.name}.jpg").write_bytes(picture.data)
            return
        image = change(Image.open(io.BytesIO(picture.data)).convert("RGB"), number)
        if quality:
            image.save(folder / f"{picture.name}.jpg", quality=quality)
        else:
            image.save(folder / f"{picture.name}.png")

    with ThreadPoolExecutor() as pool:
        numbered = enumerate(pictures)
        while chunk := list(islice(numbered, 256)):  # chunks, so that the archive is never in memory at once
            list(pool.map(lambda pair: save(*pair), chunk))


def write_shards(folder: Path, out: Path, images: int) -> None:
    """Write tar shards of `images` images each, shuffled once, as is usual with WebDataset."""
    classes = sorted(path.name for path in folder.iterdir())
    paths = sorted(folder.glob("*/*.jpg"))
    order = np.random.default_rng(0).permutation(len(paths))
    for shard, start in enumerate(range(0, len(paths), images)):
        with tarfile.open(out / f"{shard:04d}.tar", "w") as archive:
            for number in order[start : start + images]:
                path = paths[number]
                add_file(archive, f"{number:06d}.jpg", path.read_bytes())
                add_file(archive, f"{number:06d}.cls", str(classes.index(path.parent.name)).encode())
