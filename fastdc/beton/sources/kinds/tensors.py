"""Arrays of images with their labels: an `.npz`, or files of `torch.save`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastdc.beton.images import decode_image
from fastdc.beton.sources.example_images import CLASSES, example_images
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.tensor_images import TensorImages
from fastdc.beton.sources.tensor_pairs import TORCH_SUFFIXES, list_pairs, open_pair


class Tensors(Source):
    """File of arrays, or a folder with `images_best.pt` and `labels_best.pt`."""

    name = "tensors"
    title = "images and labels as arrays: .npz, .pt or .pth, or images_best.pt beside labels_best.pt"
    reads = ("mean", "std")
    rank = 25

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a file of arrays, or a folder with pairs of them."""
        if path.is_dir():
            return bool(list_pairs(path))
        return path.suffix.lower() in (".npz", *TORCH_SUFFIXES) and path.is_file()

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. Arrays may always lack images of some classes."""
        with open_pair(path, options.split) as pair:
            images = TensorImages(path, pair, options)
            split = None if "experiment" in pair.made else options.split
            yield Opened(path, images, images.contents, dataset_name(path, images.name), split, images.made)

    def example(self, folder: Path) -> Path:
        images = example_images()
        np.savez(
            folder / "images.npz",
            images=np.stack([decode_image(data) for _, _, data in images]),
            labels=np.array([CLASSES.index(name) for name, _, _ in images]),
            classes=np.array(CLASSES),
        )
        return folder / "images.npz"


SOURCE = Tensors()
