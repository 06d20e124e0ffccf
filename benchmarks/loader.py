"""Race epochs over a beton of 224-px JPEGs: fastdc's loader beside stock FFCV, torchvision, WebDataset and DALI.

    python benchmarks/loader.py [--quick] [--device cuda] [--imagenette TAR]

All sides read the same images. An epoch decodes every image once. The facts of a row count what each side delivered.
"""

from pathlib import Path

from contenders.stock_ffcv import ENVIRONMENT
from harness.race import Contender, Peer, Race
from harness.script import Options, main
from on_gpu import training_race
from prepared import Prepared

WORKERS = (1, 2, 4)
SIZE = 224
STOCK, STOCK_TRIAL = "stock FFCV Loader", "stock FFCV 224"
DECODING = "decoding alone"
TORCHVISION, TORCHVISION_TRIAL = "torchvision DataLoader (rethinkdc)", "torchvision 224"
MODELS = 4


def races(options: Options) -> list[Race]:
    """Return the races: epochs (float, uint8, raw), start, turnaround, shared stream, and on CUDA also training."""
    data = Prepared(options)
    folder = data.loaded()
    jpeg, raw = data.beton(folder), data.beton(data.compressed(), "raw")
    found = [
        float_epoch(data, folder, jpeg),
        stock_epoch("epoch over a JPEG-224 beton, uint8 batches", jpeg, data.description),
        stock_epoch("epoch over a raw-224 beton, uint8 batches", raw, data.description),
        first_batch(jpeg),
        turnaround(data.beton(data.compressed())),
        shared_stream(jpeg),
    ]
    if options.device == "cuda":
        found.append(training_race("train ResNet-18 from a JPEG-224 beton", "ffcv", folder, jpeg, SIZE))
    return found


def ours(beton: Path, output: str, loaders: int = 1, name: str = "fastdc") -> Contender:
    """Return the contender for fastdc's streaming engine."""
    arguments = {"beton": str(beton), "size": SIZE, "output": output, "engine": "ffcv", "loaders": loaders}
    return Contender(name, "contenders.ours:Epoch", arguments, WORKERS, trial="fastdc ffcv 224", compiles=True)


def stock(beton: Path, output: str) -> Contender:
    """Return the contender for stock FFCV's loader."""
    arguments = {"beton": str(beton), "size": SIZE, "output": output}
    return Contender(
        STOCK, "contenders.stock_ffcv:Epoch", arguments, WORKERS, ENVIRONMENT, trial=STOCK_TRIAL, compiles=True
    )


def torchvision(folder: Path) -> Contender:
    """Return the contender for torchvision's loader, configured as in rethinkdc."""
    arguments = {"folder": str(folder), "size": SIZE}
    return Contender(TORCHVISION, "contenders.torchvision_loader:Epoch", arguments, WORKERS, trial=TORCHVISION_TRIAL)


def float_epoch(data: Prepared, folder: Path, jpeg: Path) -> Race:
    """Return the race over epochs of float batches, as a CPU training reads them."""
    shards = {"shards": data.shards(folder), "size": SIZE}
    webdataset = Contender("WebDataset", "contenders.webdataset_loader:Epoch", shards, WORKERS)
    files = {"folder": str(folder), "size": SIZE}
    dali = Contender("NVIDIA DALI, CPU pipeline", "contenders.dali_loader:Epoch", files, WORKERS)
    return Race(
        "epoch over a JPEG-224 beton, float batches",
        "images/s",
        ours(jpeg, "float32"),
        (
            Peer(stock(jpeg, "float32"), 1.2, wall=DECODING),
            Peer(torchvision(folder), 5, wall=DECODING),
            Peer(Contender(DECODING, "contenders.ours:DecodeAlone", {"beton": str(jpeg)}, WORKERS), None, "1x"),
            Peer(webdataset),
            Peer(dali),
        ),
        note=data.description,
    )


def stock_epoch(work: str, beton: Path, note: str) -> Race:
    """Return the race over epochs of 8-bit batches beside stock FFCV, which has no goal."""
    return Race(work, "images/s", ours(beton, "uint8"), (Peer(stock(beton, "uint8")),), note=note)


def first_batch(jpeg: Path) -> Race:
    """Return the race from opening to the first batch, in new processes with warm file caches."""

    def side(name: str, label: str) -> Contender:
        arguments = {"side": label, "beton": str(jpeg), "size": SIZE, "output": "float32"}
        environment, trial = (ENVIRONMENT, STOCK_TRIAL) if label == "stock" else ({}, "fastdc ffcv 224")
        return Contender(
            name, "contenders.fresh_start:FreshStart", arguments, WORKERS, environment, trial=trial, compiles=True
        )

    peer = Peer(side(STOCK, "stock"), 8, "about 10 ms: map the file and make one batch")
    note = "imports of torch and the library are not counted on either side (see facts); what they import later is"
    return Race("open -> first batch", "s", side("fastdc", "ours"), (peer,), "time", most=0.5, note=note)


def turnaround(jpeg: Path) -> Race:
    """Return the race over the cost of starting the next epoch, beyond the time of one batch."""
    epoch = {"beton": str(jpeg), "size": SIZE, "output": "float32"}
    ours_arguments = {**epoch, "engine": "ffcv", "epochs": 3}
    mine = Contender(
        "fastdc", "contenders.ours:Turnaround", ours_arguments, WORKERS, trial="fastdc ffcv 224", compiles=True
    )
    theirs = Contender(
        STOCK,
        "contenders.stock_ffcv:Turnaround",
        {**epoch, "epochs": 3},
        WORKERS,
        ENVIRONMENT,
        trial=STOCK_TRIAL,
        compiles=True,
    )
    note = "last batch -> first batch of the next epoch, less the usual time between two batches; consumer idle"
    return Race("epoch turnaround", "ms", mine, (Peer(theirs, None, "0: nothing to do"),), "time", 1e3, 5, note)


def shared_stream(jpeg: Path) -> Race:
    """Return the race that feeds K models from one stream, or from one loader each."""
    arguments = {"beton": str(jpeg), "size": SIZE, "output": "uint8", "engine": "ffcv", "views": MODELS}
    mine = Contender(
        f"fastdc, one stream for {MODELS}", "contenders.ours:SharedEpoch", arguments, WORKERS, trial="fastdc ffcv 224"
    )
    peer = Peer(ours(jpeg, "uint8", MODELS, f"fastdc, {MODELS} loaders"), 2, f"{MODELS}x if augmenting were free")
    note = f"{MODELS} views of every image per epoch on both sides"
    return Race(f"shared decode stream, K={MODELS}", "views/s", mine, (peer,), note=note)


if __name__ == "__main__":
    main("loader", __doc__ or "", races)
