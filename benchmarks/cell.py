"""Race one complete hard-label evaluation cell: fastdc beside rethinkdc's training loop.

    python benchmarks/cell.py [--quick] [--device cuda] [--imagenette TAR]

A cell has fewer epochs than the protocol's 300, so that five repetitions fit. It is validated after the first and the
last epoch. The number of validation images keeps validation's share of the protocol's work, about a tenth.
"""

import os
from pathlib import Path
from typing import Any

from harness.race import Contender, Peer, Race
from harness.script import Options, main
from prepared import Prepared

WORKERS = (1, 2, 4)


def races(options: Options) -> list[Race]:
    """Return the races: a 28-px ConvNet on Fashion-MNIST, and torchvision's ResNet-18 at 64 px, as in the paper."""
    data = Prepared(options)
    train, val = data.fashion(data.sizes.small_train), data.fashion(data.sizes.fashion_val, "val")
    photos, photos_val = data.small_photos(), data.small_photos_val()
    epochs = (2, 2) if options.quick else (12, 5)
    return [
        cell(options, data, "28-px ConvNet, Fashion-MNIST", (train, val), "convnet", 28, epochs[0]),
        cell(options, data, f"64-px ResNet-18, {data.source}", (photos, photos_val), "resnet18", 64, epochs[1]),
    ]


def cell(
    options: Options, data: Prepared, work: str, folders: tuple[Path, Path], arch: str, size: int, epochs: int
) -> Race:
    """Return the race of one kind of cell."""
    threads = len(os.sched_getaffinity(0))
    shared: dict[str, Any] = {
        "arch": arch,
        "size": size,
        "epochs": epochs,
        "threads": threads,
        "device": options.device,
    }
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}  # `evaluate` takes a GPU if it sees one
    betons = {"subset": str(data.beton(folders[0])), "val": str(data.beton(folders[1]))}
    files = {"subset": str(folders[0]), "val": str(folders[1]), "classes": 10}
    ours = Contender("fastdc", "contenders.cells:Ours", {**shared, **betons}, (threads,), hidden, 300)
    theirs = Contender(
        "rethinkdc's training loop", "contenders.cells:Rethinkdc", {**shared, **files}, WORKERS, hidden, 300
    )
    images = sum(1 for _ in folders[0].glob("*/*")), sum(1 for _ in folders[1].glob("*/*"))
    note = f"{images[0]} images, {epochs} epochs instead of 300, 2 validations of {images[1]} images, {threads} threads"
    note += ", fp32; fastdc keeps decoded images from cell to cell, as its sweep does"
    place = "" if options.device == "cpu" else ", CUDA"
    limit = "the network's own time on both sides"
    return Race(f"whole hard-label cell: {work}{place}", "cells/h", ours, (Peer(theirs, 2, limit),), note=note)


if __name__ == "__main__":
    main("cell", __doc__ or "", races)
