"""fastdc's side of the races over files and epochs."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.race import Outcome

from contenders.delivered import Delivered
from contenders.turnaround import between_epochs
from fastdc.beton import BetonFile, write_beton
from fastdc.loader import TrainView, open_loader

COMPARED = 500  # images


class Decodes:
    """Counts how often each image is decoded, from now on, by the loaders' own count."""

    def __init__(self, loaders: list[Any]) -> None:
        self._loaders = loaders
        self._before = [loader.decodes.copy() for loader in loaders]

    def facts(self, epochs: int) -> dict[str, Any]:
        """Fewest and most decodes of any image by one loader in one epoch."""
        pairs = zip(self._loaders, self._before, strict=True)
        counts = np.stack([loader.decodes - before for loader, before in pairs]) / epochs
        return {"decodes_per_image_and_epoch": [float(counts.min()), float(counts.max())]}


class Epoch:
    """Whole epochs of one engine, from one loader or from several one after the other."""

    def __init__(
        self, beton: str, size: int, output: str, engine: str, batch_size: int = 128, epochs: int = 1, loaders: int = 1
    ) -> None:
        self._beton, self._view = Path(beton), TrainView(size)
        self._settings: dict[str, Any] = {"engine": engine, "output": output, "batch_size": batch_size, "shuffle": True}
        self._epochs, self._count = epochs, loaders
        self._loaders: list[Any] = []
        self._next = 0

    def prepare(self, workers: int) -> None:
        """Open as many loaders as asked for, with seeds of their own."""
        torch.set_num_threads(1)
        self.close()
        for seed in range(self._count):
            self._loaders.append(open_loader(self._beton, self._view, seed=seed, workers=workers, **self._settings))

    def close(self) -> None:
        """Close what an earlier `prepare` opened."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def repeat(self, share: float) -> Outcome:
        """The next epochs, each loader's after the other's."""
        delivered, decodes = Delivered(), Decodes(self._loaders)
        for _ in range(self._epochs):
            for loader in self._loaders:
                for batch in loader.epoch(self._next):
                    delivered.take(*batch)
            self._next += 1
        return Outcome(delivered.images, facts=lambda: delivered.facts() | decodes.facts(self._epochs))

    def check(self) -> dict[str, Any]:
        """Nothing more than what was counted."""
        return {}


class Turnaround(Epoch):
    """From an epoch's last batch to the next one's first."""

    def repeat(self, share: float) -> Outcome:
        """See `between_epochs`."""
        (loader,) = self._loaders
        return between_epochs(loader.epoch, self._epochs)


class SharedEpoch:
    """K views of every image from one stream that decodes it once."""

    def __init__(self, beton: str, size: int, output: str, engine: str, views: int, batch_size: int = 128) -> None:
        self._beton, self._view, self._views = Path(beton), TrainView(size), views
        self._settings: dict[str, Any] = {"engine": engine, "output": output, "batch_size": batch_size}
        self._stream: Any = None
        self._next = 0

    def prepare(self, workers: int) -> None:
        """Open the stream."""
        from fastdc.loader import ViewRequest, open_shared

        torch.set_num_threads(1)
        if self._stream is not None:
            self._stream.close()
        requests = [ViewRequest(self._view, seed) for seed in range(self._views)]
        self._stream = open_shared(self._beton, requests, order_seed=0, workers=workers, **self._settings)

    def repeat(self, share: float) -> Outcome:
        """The next epoch, all views of it."""
        delivered, decodes = Delivered(), Decodes([self._stream])
        for batches in self._stream.epoch(self._next):
            for batch in batches:
                delivered.take(*batch)
        self._next += 1
        return Outcome(delivered.images, facts=lambda: delivered.facts() | decodes.facts(1))

    def check(self) -> dict[str, Any]:
        """Nothing more than what was counted."""
        return {}


class ResidentEpoch(Epoch):
    """As `Epoch`; afterwards all three paths are compared."""

    def check(self) -> dict[str, Any]:
        """Largest difference of the three paths over one epoch of at most 500 images, in levels of 8 bits.

        An error if ffcv and resident differ at all, or device by more than one level.
        """
        settings = {**self._settings, "output": "uint8"}
        with BetonFile(self._beton) as file:
            chosen = np.arange(0, file.num_samples, -(-file.num_samples // COMPARED))
        epochs: dict[str, dict[int, torch.Tensor]] = {}
        for engine in ("ffcv", "resident", "device"):
            settings["engine"] = engine
            with open_loader(self._beton, self._view, seed=3, indices=chosen, **settings) as loader:
                epochs[engine] = by_sample(loader.epoch(1))
        apart = {engine: difference(epochs["ffcv"], epochs[engine]) for engine in ("resident", "device")}
        facts: dict[str, Any] = {"levels_from_ffcv": apart, "images_compared": len(epochs["ffcv"])}
        if apart["resident"] > 0 or apart["device"] > 1:
            facts["error"] = f"the three paths differ: {apart}"
        return facts


def by_sample(epoch: Any) -> dict[int, torch.Tensor]:
    """Views of an epoch by sample number, uint8 [S, S, 3] on the CPU."""
    views: dict[int, torch.Tensor] = {}
    for images, _, indices in epoch:
        for image, index in zip(images.cpu(), indices.tolist(), strict=True):
            views[index] = image
    return views


def difference(left: dict[int, torch.Tensor], right: dict[int, torch.Tensor]) -> int:
    """Largest difference of any two views of the same sample; 256 if the samples are not the same."""
    if left.keys() != right.keys():
        return 256
    return max(int((left[key].int() - right[key].int()).abs().max()) for key in left)


class Writer:
    """`write_beton` of a folder."""

    def __init__(self, folder: str, out: str, settings: dict[str, Any]) -> None:
        self._folder, self._out, self._settings = Path(folder), Path(out), settings
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Remember the number of threads."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Write the whole folder, whatever the share."""
        os.sync()  # what another contender left to be written must not slow this one
        start = time.perf_counter()
        manifest = write_beton(self._folder, self._out, workers=self._workers, force=True, **self._settings)
        return Outcome(
            len(manifest.ids),
            time.perf_counter() - start,
            facts=lambda: {"images": len(manifest.ids), "bytes": self._bytes()},
        )

    def _bytes(self) -> int:
        return self._out.stat().st_size

    def check(self) -> dict[str, Any]:
        """Whether every payload is its file byte for byte ("keep"), and how large the images are otherwise."""
        with BetonFile(self._out) as file:
            facts: dict[str, Any] = {
                "images": file.num_samples,
                "longest_side": int(max(file.heights.max(), file.widths.max())),
            }
            if self._settings.get("encoding") == "keep":
                facts |= self._compare(file)
        self._out.unlink()
        self._out.with_suffix(".json").unlink()
        return facts

    def _compare(self, file: BetonFile) -> dict[str, Any]:
        paths = sorted(self._folder.glob("*/*"))
        stored = sorted(hashlib.sha256(file.payload(index)).digest() for index in range(file.num_samples))
        sources = sorted(hashlib.sha256(path.read_bytes()).digest() for path in paths)
        if stored != sources:
            return {"error": "payloads are not the source files, byte for byte"}
        return {"payloads_identical": len(stored)}


class DecodeAlone:
    """libturbojpeg alone: every JPEG of the beton decoded with the accurate DCT, on threads; nothing else is done."""

    def __init__(self, beton: str) -> None:
        self._file = BetonFile(beton)
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Remember the number of threads."""
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Every image once."""
        count = self._file.num_samples

        def decode(first: int) -> int:
            return sum(self._file.decode(index).size for index in range(first, count, self._workers))

        with ThreadPoolExecutor(self._workers) as pool:
            size = sum(pool.map(decode, range(self._workers)))
        return Outcome(count, facts=lambda: {"images": count, "bytes": size})

    def check(self) -> dict[str, Any]:
        """Nothing to check."""
        return {}


class CopyAlone:
    """Memory alone: as many batches as an epoch has, each written once with values that lie in the cache."""

    def __init__(self, shape: list[int], epochs: int, images: int) -> None:
        self._shape, self._rounds = shape, epochs * -(-images // shape[0])
        self._source = torch.rand(shape[1:])
        self._batches = [torch.empty(shape) for _ in range(4)]

    def prepare(self, workers: int) -> None:
        """Threads of the copy."""
        torch.set_num_threads(workers)

    def repeat(self, share: float) -> Outcome:
        """Fill batches in turn, so that none is in the cache when it comes round."""
        for number in range(self._rounds):
            self._batches[number % len(self._batches)].copy_(self._source)
        return Outcome(self._rounds * self._shape[0])

    def check(self) -> dict[str, Any]:
        """Nothing to check."""
        return {}


class Disk:
    """The disk alone: as many bytes as the beton has, written one after the other and flushed."""

    def __init__(self, folder: str, out: str) -> None:
        sizes = [path.stat().st_size for path in Path(folder).glob("*/*")]
        self._images, self._bytes, self._out = len(sizes), sum(sizes), Path(out)
        self._block = np.random.default_rng(0).integers(0, 256, 8 << 20, dtype=np.uint8).tobytes()

    def prepare(self, workers: int) -> None:
        """Nothing to open."""
        self._out.parent.mkdir(parents=True, exist_ok=True)

    def repeat(self, share: float) -> Outcome:
        """Write, flush to the disk, delete."""
        os.sync()
        start = time.perf_counter()
        with self._out.open("wb") as handle:
            left = self._bytes
            while left > 0:
                handle.write(self._block[:left])
                left -= len(self._block)
            handle.flush()
            os.fsync(handle.fileno())
        seconds = time.perf_counter() - start
        self._out.unlink()
        return Outcome(self._images, seconds, facts=lambda: {"bytes": self._bytes})

    def check(self) -> dict[str, Any]:
        """Nothing to check."""
        return {}
