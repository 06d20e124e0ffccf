"""Contenders: RDED from stored images to encoded mosaics, by fastdc's method and by the steps of the official code.

The teacher costs almost nothing (the mean colour, then a matrix), because a real one costs both sides the same. All
images of a class form its pool, with `CROPS` crops each. The crops of lowest loss become `ipc` mosaics. Every side
uses one thread. The result stays in memory.
"""

import io
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.race import Outcome
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.datasets.folder import pil_loader

from contenders.mosaics import GRID, MEAN, QUALITY, STD

CROPS, TILES = 5, GRID**2


class MeanColour(nn.Module):
    """Network that computes logits from the mean colour with fixed weights."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(torch.randn((3, classes), generator=generator), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, S, S] to logits [B, classes]."""
        return images.mean((2, 3)) @ self.weights


class Pool(ABC):
    """Runner over a folder of classes, all of whose images are candidates.

    Args:
        folder: a folder per class, the same number of JPEGs in each.
        ipc: mosaics per class.
    """

    def __init__(self, folder: str, ipc: int, size: int = 224) -> None:
        self.classes = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        self.paths = [sorted(path.glob("*.jpg")) for path in self.classes]
        self.ipc, self.size, self.side = ipc, size, size // GRID
        self.images = sum(len(paths) for paths in self.paths)

    def prepare(self, workers: int) -> None:
        """Limit torch to one thread."""
        torch.set_num_threads(1)

    def repeat(self, share: float) -> Outcome:
        """Make the mosaics of all classes, whatever the share."""
        stored = self.encoded()
        return Outcome(self.images, facts=lambda: {"mosaics": len(stored), "jpeg_bytes": sum(map(len, stored))})

    @abstractmethod
    def encoded(self) -> list[bytes]:
        """Return every mosaic as JPEG."""

    def check(self) -> dict[str, Any]:
        """Compare nothing, because each side draws its own random crops."""
        return {}


class Ours(Pool):
    """fastdc's `rded`: crops by the loader's kernels, cut again from the beton for the mosaics.

    Every repetition decodes all images again, and those of the mosaics a second time.
    """

    def __init__(self, folder: str, beton: str, ipc: int) -> None:
        super().__init__(folder, ipc)
        self._beton = Path(beton)

    def encoded(self) -> list[bytes]:
        from fastdc.beton import encode_jpeg

        return [encode_jpeg(image, QUALITY) for image in self._mosaics()[1]]

    def _mosaics(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        from fastdc.beton import BetonFile
        from fastdc.common.log import progress_shown
        from fastdc.loader.image_cache import CACHE
        from fastdc.methods import MethodContext, get_method
        from fastdc.nn.device import Compute
        from fastdc.teachers.network import Teacher, freeze
        from fastdc.teachers.resources import Teaching

        cpu, names = torch.device("cpu"), tuple(path.name for path in self.classes)
        teacher = Teacher("mean colour", "0", "mean", freeze(MeanColour(len(names)), cpu), self.size, 0.0)
        method = get_method("rded")
        config = method.configure({"pool": len(self.paths[0]), "crops": CROPS, "factor": GRID})
        CACHE.clear()  # otherwise the resident engine would reuse the images that the last repetition decoded
        with progress_shown(False), tempfile.TemporaryDirectory() as scratch, BetonFile(self._beton) as beton:
            teaching = Teaching((teacher,), Compute(cpu, "fp32", 1), self._beton, Path(scratch))
            context = MethodContext(beton.labels, names, self.size, beton.decode, teaching=teaching)
            compressed = method.compress(context, config, self.ipc, seed=0)
            assert compressed.images is not None
            return compressed, [image for image in compressed.images() if not isinstance(image, bytes)]

    def check(self) -> dict[str, Any]:
        """Check that every mosaic holds only images of its class, and that two runs give equal mosaics."""
        from fastdc.beton import BetonFile

        (compressed, first), (_, second) = self._mosaics(), self._mosaics()
        with BetonFile(self._beton) as beton:
            own = bool((beton.labels[compressed.sources] == compressed.labels[:, None]).all())
        same = all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
        facts: dict[str, Any] = {"classes_right": own, "repeatable": same}
        return facts if own and same else {**facts, "error": "mosaics of other classes, or not the same twice"}


class Rded(Pool):
    """Steps of RDED's code.

    They are PIL, ToTensor, five antialiased RandomResizedCrops of the float image, Normalize, a frame of zeros,
    cross-entropy, the best crop of each image, tiles in a float canvas, denormalise, save.
    """

    def __init__(self, folder: str, ipc: int) -> None:
        super().__init__(folder, ipc)
        self._teacher = MeanColour(len(self.classes)).eval()
        self._crop = transforms.RandomResizedCrop(self.side, ratio=(1, 1), antialias=True)
        self._tensor, self._normalise = transforms.ToTensor(), transforms.Normalize(MEAN, STD)
        zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        back = transforms.Normalize(zero, tuple(1 / value for value in STD))
        self._undo = transforms.Compose([back, transforms.Normalize(tuple(-value for value in MEAN), one)])

    def encoded(self) -> list[bytes]:
        with torch.no_grad():
            return [jpeg for label in range(len(self.classes)) for jpeg in self._class(label)]

    def _crops(self, path: Path) -> torch.Tensor:
        image = self._tensor(pil_loader(str(path)))
        return self._normalise(torch.stack([self._crop(image) for _ in range(CROPS)]))  # type: ignore[no-any-return]

    def _class(self, label: int) -> list[bytes]:
        crops = torch.stack([self._crops(path) for path in self.paths[label]])
        images, low = len(crops), (self.size - self.side) // 2
        frame = nn.functional.pad(crops.flatten(0, 1), (low, low, low, low))
        labels = torch.full((images * CROPS,), label)
        logits = torch.cat([self._teacher(part) for part in torch.split(frame, images)])
        losses = nn.functional.cross_entropy(logits, labels, reduction="none").view(images, CROPS)
        best = losses.argmin(1)
        chosen = losses[torch.arange(images), best].argsort()[: self.ipc * TILES]
        return self._tiled(crops[torch.arange(images), best][chosen])

    def _tiled(self, patches: torch.Tensor) -> list[bytes]:
        canvas = torch.zeros((self.ipc, 3, self.size, self.size))
        for tile in range(TILES):
            part = nn.functional.interpolate(patches[tile * self.ipc : (tile + 1) * self.ipc], (self.side, self.side))
            top, left = tile // GRID * self.side, tile % GRID * self.side
            canvas[:, :, top : top + self.side, left : left + self.side] = part
        stored = []
        for image in self._undo(canvas):
            out = io.BytesIO()
            pixels = (image.numpy().transpose((1, 2, 0)) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(out, "JPEG")  # Pillow's default quality is 75, as on our side
            stored.append(out.getvalue())
        return stored
