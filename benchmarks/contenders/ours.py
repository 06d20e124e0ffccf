"""Contenders: fastdc's side of the races over files and epochs, and the physical limits of some."""

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
    """Counter of decodes per image since its construction, from the loaders' own counts."""

    def __init__(self, loaders: list[Any]) -> None:
        self._loaders = loaders
        self._before = [loader.decodes.copy() for loader in loaders]

    def facts(self, epochs: int) -> dict[str, Any]:
        """Return the fewest and most decodes of any image by one loader in one epoch."""
        pairs = zip(self._loaders, self._before, strict=True)
        counts = np.stack([loader.decodes - before for loader, before in pairs]) / epochs
        return {"decodes_per_image_and_epoch": [float(counts.min()), float(counts.max())]}


class Epoch:
    """Runner of epochs of one engine, from one loader or from several in turn."""

    def __init__(
        self, beton: str, size: int, output: str, engine: str, batch_size: int = 128, epochs: int = 1, loaders: int = 1
    ) -> None:
        self._beton, self._view = Path(beton), TrainView(size)
        self._settings: dict[str, Any] = {"engine": engine, "output": output, "batch_size": batch_size, "shuffle": True}
        self._epochs, self._count = epochs, loaders
        self._loaders: list[Any] = []
        self._next = 0

    def prepare(self, workers: int) -> None:
        """Open the loaders, each with its own seed."""
        torch.set_num_threads(1)
        self.close()
        for seed in range(self._count):
            self._loaders.append(open_loader(self._beton, self._view, seed=seed, workers=workers, **self._settings))

    def close(self) -> None:
        """Close the loaders that an earlier `prepare` opened."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def repeat(self, share: float) -> Outcome:
        """Run the next epochs, one loader after the other, whatever the share."""
        delivered, decodes = Delivered(), Decodes(self._loaders)
        for _ in range(self._epochs):
            for loader in self._loaders:
                for batch in loader.epoch(self._next):
                    delivered.take(*batch)
            self._next += 1
        return Outcome(delivered.images, facts=lambda: delivered.facts() | decodes.facts(self._epochs))

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}


class Turnaround(Epoch):
    """Runner that times the gap from an epoch's last batch to the next epoch's first."""

    def repeat(self, share: float) -> Outcome:
        """Measure with `between_epochs`."""
        (loader,) = self._loaders
        return between_epochs(loader.epoch, self._epochs)


class SharedEpoch:
    """Runner of epochs with K views of every image from one stream, which decodes the image once."""

    def __init__(self, beton: str, size: int, output: str, engine: str, views: int, batch_size: int = 128) -> None:
        self._beton, self._view, self._views = Path(beton), TrainView(size), views
        self._settings: dict[str, Any] = {"engine": engine, "output": output, "batch_size": batch_size}
        self._stream: Any = None
        self._next = 0

    def prepare(self, workers: int) -> None:
        """Open the stream."""
        from fastdc.loader import LoaderRequest, ViewRequest, open_stream

        torch.set_num_threads(1)
        if self._stream is not None:
            self._stream.close()
        requests = tuple(ViewRequest(self._view, seed) for seed in range(self._views))
        settings = {**self._settings, "shuffle": True, "workers": workers}
        self._stream = open_stream(LoaderRequest(self._beton, requests, order_seed=0, **settings))

    def repeat(self, share: float) -> Outcome:
        """Run the next epoch with all its views, whatever the share."""
        delivered, decodes = Delivered(), Decodes([self._stream])
        for batches in self._stream.epoch_views(self._next):
            for batch in batches:
                delivered.take(*batch)
        self._next += 1
        return Outcome(delivered.images, facts=lambda: delivered.facts() | decodes.facts(1))

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}


class ResidentEpoch(Epoch):
    """Runner like `Epoch` that finally compares all three paths."""

    def check(self) -> dict[str, Any]:
        """Return the largest differences between the three paths in one epoch of at most 500 images, in 8-bit levels.

        It is an error if resident differs from ffcv at all, or device by more than one level.
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
    """Return the views of an epoch by sample number, uint8 [S, S, 3] on the CPU."""
    views: dict[int, torch.Tensor] = {}
    for images, _, indices in epoch:
        for image, index in zip(images.cpu(), indices.tolist(), strict=True):
            views[index] = image
    return views


def difference(left: dict[int, torch.Tensor], right: dict[int, torch.Tensor]) -> int:
    """Return the largest difference between two views of a sample; 256 if the sets of samples differ."""
    if left.keys() != right.keys():
        return 256
    return max(int((left[key].int() - right[key].int()).abs().max()) for key in left)


class Writer:
    """Runner that writes a folder with `write_beton`."""

    def __init__(self, folder: str, out: str, settings: dict[str, Any]) -> None:
        self._folder, self._out, self._settings = Path(folder), Path(out), settings
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Make the output folder and remember the number of threads."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Write the complete folder, whatever the share."""
        os.sync()  # pending writes of another contender must not slow this one
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
        """Report the longest side; with "keep", also check that every payload equals its file byte for byte."""
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
    """Limit: libturbojpeg alone decodes every JPEG of the beton with the accurate DCT, on threads."""

    def __init__(self, beton: str) -> None:
        self._file = BetonFile(beton)
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Remember the number of threads."""
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Decode every image once, whatever the share."""
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
    """Limit: memory alone, where every batch of the epochs is written once with values from the cache."""

    def __init__(self, shape: list[int], epochs: int, images: int) -> None:
        self._shape, self._rounds = shape, epochs * -(-images // shape[0])
        self._source = torch.rand(shape[1:])
        self._batches = [torch.empty(shape) for _ in range(4)]

    def prepare(self, workers: int) -> None:
        """Set the threads of the copy."""
        torch.set_num_threads(workers)

    def repeat(self, share: float) -> Outcome:
        """Fill four batches in turn, so that none is still in the cache when its turn comes again."""
        for number in range(self._rounds):
            self._batches[number % len(self._batches)].copy_(self._source)
        return Outcome(self._rounds * self._shape[0])

    def check(self) -> dict[str, Any]:
        """Nothing to check."""
        return {}


class Disk:
    """Limit: the disk alone writes as many bytes as the image files have, sequentially, and flushes them."""

    def __init__(self, folder: str, out: str) -> None:
        sizes = [path.stat().st_size for path in Path(folder).glob("*/*")]
        self._images, self._bytes, self._out = len(sizes), sum(sizes), Path(out)
        self._block = np.random.default_rng(0).integers(0, 256, 8 << 20, dtype=np.uint8).tobytes()

    def prepare(self, workers: int) -> None:
        """Make the output folder."""
        self._out.parent.mkdir(parents=True, exist_ok=True)

    def repeat(self, share: float) -> Outcome:
        """Write, flush to the disk and delete; the deletion is not timed."""
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
