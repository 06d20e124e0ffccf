"""Draw a small set of images to try fastdc with: four kinds of pattern, as class folders.

python examples/patterns.py photos              (photos/train and photos/val)
"""

import argparse
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("checks", "dots", "rings", "stripes")
HUES = 0.15
"""Half the range of hues of a class, where the whole circle is 1."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images of both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write; created if missing")
    parser.add_argument("--train", type=int, default=60, help="training images per class (default: %(default)s)")
    parser.add_argument("--val", type=int, default=25, help="validation images per class (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side in pixels (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    for seed, (split, count) in enumerate((("train", chosen.train), ("val", chosen.val))):
        draw_split(chosen.folder / split, count, chosen.size, np.random.default_rng(seed))


def draw_split(folder: Path, count: int, size: int, random: np.random.Generator) -> None:
    """Write `count` images of each class as `folder`/CLASS/NUMBER.jpg."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(draw(kind, size, random)).save(folder / kind / f"{number:03}.jpg", quality=90)


def draw(kind: str, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a noisy pattern at a random angle, pitch and place, uint8 [size, size, 3].

    Its first colour comes from a range of hues that overlaps with those of other classes. The second one is any colour.
    """
    hue = CLASSES.index(kind) / len(CLASSES) + random.uniform(-HUES, HUES)
    first = 255 * np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.5, 1), random.uniform(0.5, 1)))
    second = random.integers(0, 256, 3)
    angle, pitch = random.uniform(0, np.pi), random.uniform(0.25, 0.9)
    y, x = np.mgrid[:size, :size] - random.uniform(0, size, (2, 1, 1))
    u = pitch * (x * np.cos(angle) + y * np.sin(angle))
    v = pitch * (y * np.cos(angle) - x * np.sin(angle))
    height = {
        "checks": np.sign(np.sin(u)) * np.sign(np.sin(v)),
        "dots": np.sin(u) + np.sin(v) - 0.8,
        "rings": np.sin(np.hypot(u, v)),
        "stripes": np.sin(u),
    }[kind]
    colours = np.where(height[..., None] > 0, first, second) + random.normal(0, 20, (size, size, 3))
    return colours.clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
