"""Define the race on a CUDA device: ResNet-18, bf16, batch 128, fed by fastdc and by torchvision with all cores."""

import os
from pathlib import Path

from harness.race import Contender, Peer, Race

BATCH = 128


def training_race(work: str, engine: str, folder: Path, beton: Path, size: int) -> Race:
    """Return the race in images per second of training; the rows' facts hold the GPU's utilisation."""
    cores = len(os.sched_getaffinity(0))
    common = {"size": size, "device": "cuda", "batch_size": BATCH}
    ours = Contender(
        f"fastdc, {engine} engine",
        "contenders.gpu_training:Ours",
        {**common, "beton": str(beton), "engine": engine},
        (cores,),
        timeout=300,
    )
    theirs = Contender(
        "torchvision DataLoader, all cores",
        "contenders.gpu_training:Torchvision",
        {**common, "folder": str(folder)},
        (cores,),
        timeout=300,
    )
    note = "ResNet-18, bf16, channels_last, batch 128 on both sides; facts: GPU busy %"
    return Race(f"{work}, {size} px", "images/s", ours, (Peer(theirs, None, "the GPU's own rate"),), note=note)
