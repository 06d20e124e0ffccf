"""Draw the README's pictures: the study's leaderboard, and mosaics of Fashion-MNIST.

    python scripts/pictures.py [FOLDER]            (default: docs/images)

The leaderboard comes from the committed rows alone. The mosaics need the idx files of Debian's `dataset-fashion-mnist`,
and train a small observer for a minute.
"""

import argparse
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import fastdc

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "benchmarks" / "results" / "imagenette64"
SETTING = {"protocol": "hard-small", "arch": "resnet10", "precision": "bf16", "augment": "method", "ipc": 10}
SEEDS = 8  # the study's claims need as many
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
PER_CLASS, IPC, SIDE, ZOOM = 200, 2, 28, 3

WHITE, INK, FAINT, GRID, BLUE = "white", "#1f2328", "#59636e", "#d8dee4", "#2f6fb3"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "docs" / "images", help="folder for the pictures"
    )
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    draw_leaderboard().save(folder / "leaderboard.png", optimize=True)
    draw_mosaics().save(folder / "mosaics.png", optimize=True)


def draw_leaderboard() -> Image.Image:
    """Return a chart of the study's methods with eight seeds: mean, 95 % interval and bytes."""
    (setting,) = study_rows("rank", "--ipc", "10", "--min-seeds", str(SEEDS))
    size = {row["method"]: row["image_bytes"] for row in study_rows("report")}
    rows, low, high = setting["methods"], 30, 55
    left, top, step, width = 360, 84, 56, 720
    image = Image.new("RGB", (left + width + 200, top + step * len(rows) + 96), WHITE)
    pen, small, large = ImageDraw.Draw(image), ImageFont.load_default(22), ImageFont.load_default(26)
    title = "Top-1 accuracy, %: mean and 95 % interval, n = 8 seeds"
    pen.text((24, 20), title, INK, large)
    pen.text((image.width - 24, 24), "stored images", FAINT, small, anchor="ra")
    bottom = top + step * len(rows)

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * width

    for value in range(low, high + 1, 5):
        pen.line((place(value), top, place(value), bottom), GRID, 2)
        pen.text((place(value), bottom + 8), str(value), FAINT, small, anchor="ma")
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        pen.text((left - 24, y), row["method"], INK, large, anchor="rm")
        pen.line((place(row["low"]), y, place(row["high"]), y), BLUE, 6)
        x = place(row["mean"])
        pen.ellipse((x - 10, y - 10, x + 10, y + 10), BLUE, WHITE, 2)
        pen.text((place(row["high"]) + 14, y), f"{row['mean']:.1f}", INK, small, anchor="lm")
        pen.text((image.width - 24, y), f"{size[row['method']] / 1000:.0f} kB", FAINT, small, anchor="rm")
    note = "Imagenette, 64 px, 10 images per class, hard labels, ResNet-10 of width 32, 300 epochs"
    pen.text((24, image.height - 14), note, FAINT, small, anchor="ld")
    return image


def study_rows(command: str, *options: str) -> list[dict[str, Any]]:
    """Return what a reporting command prints about the study's rows of `SETTING`."""
    call = [sys.executable, "-m", "fastdc", command, str(STUDY), "--format", "json", *options]
    found = subprocess.run(call, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return [row for row in json.loads(found.stdout) if all(row[key] == value for key, value in SETTING.items())]


def draw_mosaics() -> Image.Image:
    """Return a sheet of images that `random`, `pca` and `pact` store of Fashion-MNIST."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_images(folder / "clothes")
        fastdc.write_beton(folder / "clothes", folder / "train.beton")
        observer = fastdc.ObserverConfig(arch="resnet10_w16", epochs=10, image_size=SIDE, threads=1)
        return arrange({method: compress(method, folder, observer) for method in ("random", "pca", "pact")})


def save_images(folder: Path) -> None:
    """Write the first training images of every class of Fashion-MNIST as PNG files in class folders."""
    images, labels = read_idx("train-images-idx3-ubyte.gz", 16), read_idx("train-labels-idx1-ubyte.gz", 8)
    for label in range(len(CLOTHES)):
        (folder / str(label)).mkdir(parents=True)
        for index in np.flatnonzero(labels == label)[:PER_CLASS]:
            Image.fromarray(images.reshape(-1, SIDE, SIDE)[index]).save(folder / str(label) / f"{index:05}.png")


def read_idx(name: str, header: int) -> NDArray[np.uint8]:
    """Return the values of one of Fashion-MNIST's files, flat."""
    return np.frombuffer(gzip.decompress((FASHION_MNIST / name).read_bytes()), np.uint8, offset=header)


def compress(method: str, folder: Path, observer: fastdc.ObserverConfig) -> list[NDArray[np.uint8]]:
    """Return the images that a method stores, class by class."""
    out = folder / f"{method}.beton"
    fastdc.compress_beton(
        method, folder / "train.beton", out, ipc=IPC, image_size=SIDE, workdir=folder / "runs", observer=observer
    )
    with fastdc.BetonFile(out) as beton:
        return [beton.decode(index) for index in range(len(beton))]


def arrange(stored: dict[str, list[NDArray[np.uint8]]]) -> Image.Image:
    """Return rows of images, one method below the other, with the classes as columns."""
    side, gap, left, top = SIDE * ZOOM, 8, 120, 40
    block = IPC * (side + gap) + 14
    sheet = Image.new("L", (left + len(CLOTHES) * (side + gap) + 8, top + block * len(stored)), WHITE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for column, name in enumerate(CLOTHES):
        pen.text((left + column * (side + gap) + side / 2, 12), name, FAINT, font, anchor="ma")
    for row, (method, images) in enumerate(stored.items()):
        pen.text((left - 16, top + row * block + (block - 14) / 2), method, INK, font, anchor="rm")
        for index, pixels in enumerate(images):
            column, line = divmod(index, IPC)
            place = (left + column * (side + gap), top + row * block + line * (side + gap))
            sheet.paste(Image.fromarray(pixels).convert("L").resize((side, side), Image.Resampling.NEAREST), place)
    return sheet


if __name__ == "__main__":
    main()
