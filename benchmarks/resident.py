"""Race epochs over a compressed set after the first: fastdc's resident engine beside stock FFCV and torchvision.

    python benchmarks/resident.py [--quick] [--device cuda] [--imagenette TAR]

A compressed set fits in memory, so fastdc decodes it once. After the race the three paths (FFCV, memory, device) are
compared image by image.
"""

from pathlib import Path

from contenders.stock_ffcv import ENVIRONMENT
from harness.race import Contender, Peer, Race
from harness.script import Options, main
from on_gpu import training_race
from prepared import Prepared

WORKERS = (1, 2, 4)
WRITING = "writing such batches alone"


def races(options: Options) -> list[Race]:
    """Return the races over a 224-px and a 28-px set, and on CUDA also training from the device's memory."""
    data = Prepared(options)
    folder = data.compressed()
    beton = data.beton(folder)
    small = data.fashion(50)
    note = f"{data.description.rpartition(',')[0]}, JPEG q75, {data.sizes.compressed} images of each of 10 classes"
    found = [
        epochs("epoch >= 2 over a compressed 224-px set, float batches", folder, beton, 224, (3, 12), (6, 2, 1), note),
        epochs(
            "epoch >= 2 over a compressed 28-px set, float batches",
            small,
            data.beton(small),
            28,
            (3, 12),
            (200, 20, 2),
            "Fashion-MNIST, 500 images, JPEG q75",
        ),
    ]
    if options.device == "cuda":
        found.append(training_race("train ResNet-18 from device memory", "device", folder, beton, 224))
    return found


def epochs(
    work: str, folder: Path, beton: Path, size: int, goals: tuple[int, int], rounds: tuple[int, int, int], note: str
) -> Race:
    """Return the race over epochs of float batches; `rounds` is each side's epochs per repetition.

    Faster sides do more epochs, so that a repetition is long enough to time.
    """
    batches = {"beton": str(beton), "size": size, "output": "float32"}
    mine, theirs, slow = rounds
    ours = Contender(
        "fastdc", "contenders.ours:ResidentEpoch", {**batches, "engine": "resident", "epochs": mine}, WORKERS
    )
    stock = Contender(
        "stock FFCV Loader",
        "contenders.stock_ffcv:Epoch",
        {**batches, "epochs": theirs},
        WORKERS,
        ENVIRONMENT,
        trial=f"stock FFCV {size}",
        compiles=True,
    )
    torchvision = Contender(
        "torchvision DataLoader (rethinkdc)",
        "contenders.torchvision_loader:Epoch",
        {"folder": str(folder), "size": size, "epochs": slow},
        WORKERS,
        trial=f"torchvision {size}",
    )
    peers = [Peer(stock, goals[0], wall=WRITING), Peer(torchvision, goals[1], wall=WRITING)]
    if size == 224:  # smaller batches stay in the cache, where memory bandwidth is no limit
        images = sum(1 for _ in folder.glob("*/*"))
        shape = {"shape": [min(128, images), 3, size, size], "epochs": mine, "images": images}
        peers.append(Peer(Contender(WRITING, "contenders.ours:CopyAlone", shape, WORKERS), None, "1x"))
    return Race(work, "images/s", ours, tuple(peers), note=note)


if __name__ == "__main__":
    main("resident", __doc__ or "", races)
