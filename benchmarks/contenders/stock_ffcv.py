"""Contenders: stock FFCV, used as its documentation shows, with its known hazards avoided."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness.race import Outcome

from contenders.delivered import Delivered
from contenders.turnaround import between_epochs

MEAN = np.array([0.485, 0.456, 0.406]) * 255
STD = np.array([0.229, 0.224, 0.225]) * 255
ENVIRONMENT = {"NUMBA_NUM_THREADS": "4", "NUMBA_THREADING_LAYER": "tbb"}
"""Environment of FFCV's processes.

Four threads allow a trial of 4 workers on 2 cores. tbb is needed, because two loaders abort the process under
`workqueue`.
"""


def image_pipeline(size: int, output: str) -> list[Any]:
    """Return the image pipeline: RandomResizedCrop, flip, and for "float32" ImageNet's normalisation.

    Every loader needs a new list, because FFCV removes operations from it. On the CPU `NormalizeImage` must precede
    `ToTensor`, where it is compiled.
    """
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

    pipeline: list[Any] = [RandomResizedCropRGBImageDecoder((size, size)), RandomHorizontalFlip()]
    if output == "float32":
        pipeline.append(NormalizeImage(MEAN, STD, np.dtype(np.float32)))
    return [*pipeline, ToTensor(), ToTorchImage(convert_back_int16=False)]


def open_stock(beton: str, size: int, output: str, batch_size: int, workers: int) -> Any:
    """Open FFCV's loader with random order, OS cache and the short last batch kept; other settings are defaults."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import Squeeze, ToTensor

    return Loader(
        beton,
        batch_size=batch_size,
        num_workers=workers,
        os_cache=True,
        order=OrderOption.RANDOM,
        drop_last=False,
        seed=0,
        pipelines={"image": image_pipeline(size, output), "label": [IntDecoder(), ToTensor(), Squeeze(1)]},
    )


class Epoch:
    """Runner of complete epochs of FFCV's loader."""

    def __init__(self, beton: str, size: int, output: str, batch_size: int = 128, epochs: int = 1) -> None:
        self._open: Callable[[int], Any] = lambda workers: open_stock(beton, size, output, batch_size, workers)
        self._epochs = epochs
        self._loader: Any = None

    def prepare(self, workers: int) -> None:
        """Open a loader, whose code for this number of workers compiles in its first epoch."""
        self._loader = self._open(workers)

    def repeat(self, share: float) -> Outcome:
        """Run all epochs whatever the share, because an early stop leaks FFCV's thread and buffers."""
        delivered = Delivered()
        for _ in range(self._epochs):
            for images, labels in self._loader:
                delivered.take(images, labels)
        return Outcome(delivered.images, facts=delivered.facts)

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}


class Turnaround(Epoch):
    """Runner that times the gap from an epoch's last batch to the next epoch's first."""

    def repeat(self, share: float) -> Outcome:
        """Measure with `between_epochs`."""
        return between_epochs(lambda _: iter(self._loader), self._epochs)


class Writer:
    """Runner of `DatasetWriter` over torchvision's `ImageFolder`, as in FFCV's guide."""

    def __init__(self, folder: str, out: str, max_resolution: int | None) -> None:
        self._folder, self._out, self._max_resolution = folder, Path(out), max_resolution
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Import, and list the folder once, so that its entries are cached as they are for fastdc."""
        from torchvision.datasets import ImageFolder

        self._workers = workers
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._data = ImageFolder(self._folder)

    def repeat(self, share: float) -> Outcome:
        """List the folder and write it, or a share of its images."""
        from ffcv.fields import IntField, RGBImageField
        from ffcv.writer import DatasetWriter
        from torchvision.datasets import ImageFolder

        os.sync()  # see contenders.ours.Writer
        start = time.perf_counter()
        data = ImageFolder(self._folder)
        image = RGBImageField(write_mode="jpg", max_resolution=self._max_resolution, jpeg_quality=90)
        writer = DatasetWriter(str(self._out), {"image": image, "label": IntField()}, num_workers=self._workers)
        kept = max(int(len(data) * share), 1)
        writer.from_indexed_dataset(data, indices=list(range(kept)) if share < 1 else None)
        return Outcome(
            kept, time.perf_counter() - start, facts=lambda: {"images": kept, "bytes": self._out.stat().st_size}
        )

    def check(self) -> dict[str, Any]:
        """Check that its file opens, and report the longest side of its images."""
        from fastdc.beton import BetonFile

        with BetonFile(self._out) as file:
            facts = {"images": file.num_samples, "longest_side": int(max(file.heights.max(), file.widths.max()))}
        self._out.unlink()
        return facts
