"""Contenders: 2 x 2 mosaics of whole images as JPEG q75, from a beton, with Pillow, and by the steps of RDED's code.

Every side uses one thread. The result stays in memory.
"""

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.race import Outcome
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import pil_loader

GRID, TILES = 2, 4
QUALITY, MOST = 75, 250
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Mosaics(ABC):
    """Runner that makes at most `MOST` mosaics of a folder's images; mosaic i has images 4i .. 4i + 3 in file order."""

    def __init__(self, folder: str, size: int = 224) -> None:
        self.paths, self.size = sorted(Path(folder).glob("*/*.jpg")), size
        self.count = min(len(self.paths) // TILES, MOST)

    def prepare(self, workers: int) -> None:
        """Limit torch to one thread."""
        torch.set_num_threads(1)

    def repeat(self, share: float) -> Outcome:
        """Make all mosaics, whatever the share."""
        size = sum(len(self.encode(number)) for number in range(self.count))
        return Outcome(self.count, facts=lambda: {"mosaics": self.count, "jpeg_bytes": size})

    @abstractmethod
    def encode(self, number: int) -> bytes:
        """Return mosaic `number` as JPEG."""

    def check(self) -> dict[str, Any]:
        """Compare nothing."""
        return {}


class Ours(Mosaics):
    """Mosaics by fastdc: decode from the beton, shrink and tile in a kernel, encode."""

    def __init__(self, folder: str, beton: str, size: int = 224) -> None:
        from fastdc.beton import BetonFile, load_manifest

        super().__init__(folder, size)
        self._file = BetonFile(beton)
        ids = load_manifest(Path(beton)).ids
        places = {Path(name).with_suffix("").name: index for index, name in enumerate(ids)}
        self._order = [places[path.stem] for path in self.paths]

    def canvas(self, number: int) -> NDArray[np.uint8]:
        """Return a mosaic's pixels."""
        from fastdc.kernels.views.mosaics import combine

        chosen = self._order[number * TILES : (number + 1) * TILES]
        return combine([self._file.decode(index) for index in chosen], self.size, GRID)

    def encode(self, number: int) -> bytes:
        from fastdc.beton import encode_jpeg

        return encode_jpeg(self.canvas(number), QUALITY)

    def check(self) -> dict[str, Any]:
        """Return the largest difference from Pillow's mosaics, in 8-bit levels; above 1 is an error."""
        apart = max(
            int(np.abs(self.canvas(number).astype(int) - np.asarray(pillow_mosaic(self, number), int)).max())
            for number in range(self.count)
        )
        facts: dict[str, Any] = {"levels_from_pillow": apart, "mosaics_compared": self.count}
        return facts if apart <= 1 else {**facts, "error": f"mosaics are {apart} levels from Pillow's"}


def pillow_mosaic(of: Mosaics, number: int) -> Image.Image:
    """Return the mosaic made by Pillow alone: open, resize (antialiased bilinear), paste."""
    canvas, side = Image.new("RGB", (of.size, of.size)), of.size // GRID
    for position, path in enumerate(of.paths[number * TILES : (number + 1) * TILES]):
        tile = pil_loader(str(path)).resize((side, side), Image.Resampling.BILINEAR)
        canvas.paste(tile, (position % GRID * side, position // GRID * side))
    return canvas


class Pillow(Mosaics):
    """Mosaics by Pillow alone, without a detour through floats."""

    def encode(self, number: int) -> bytes:
        out = io.BytesIO()
        pillow_mosaic(self, number).save(out, "JPEG", quality=QUALITY)
        return out.getvalue()


class Rded(Mosaics):
    """Mosaics by the steps of RDED's code, with its random crop replaced by the whole image and without its network.

    The steps are PIL, ToTensor, patches of half size, Normalize, tiles interpolated into a float canvas, denormalise,
    `Image.fromarray`, save.
    """

    def __init__(self, folder: str, size: int = 224) -> None:
        super().__init__(folder, size)
        patch = transforms.Resize((size // GRID, size // GRID), antialias=True)
        self._read = transforms.Compose([transforms.ToTensor(), patch, transforms.Normalize(MEAN, STD)])
        zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        back = transforms.Normalize(zero, tuple(1 / value for value in STD))
        self._undo = transforms.Compose([back, transforms.Normalize(tuple(-value for value in MEAN), one)])

    def encode(self, number: int) -> bytes:
        side = self.size // GRID
        canvas = torch.zeros((1, 3, self.size, self.size))
        for position, path in enumerate(self.paths[number * TILES : (number + 1) * TILES]):
            tile = torch.nn.functional.interpolate(self._read(pil_loader(str(path)))[None], size=(side, side))
            top, left = position // GRID * side, position % GRID * side
            canvas[:, :, top : top + side, left : left + side] = tile
        pixels = (self._undo(canvas)[0].numpy().transpose((1, 2, 0)) * 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG")  # Pillow's default quality is 75, as on our side
        return out.getvalue()
