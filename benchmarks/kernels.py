"""Race scores from logits and 2 x 2 mosaics: fastdc's kernels beside numpy, torch, Pillow and the official codes.

python benchmarks/kernels.py [--quick] [--imagenette TAR]
"""

from pathlib import Path

from harness.race import Contender, Peer, Race
from harness.script import Options, main
from prepared import Prepared


def races(options: Options) -> list[Race]:
    """Return the races: scores of 1000 classes, mosaics from raw pixels and from JPEGs."""
    data = Prepared(options)
    folder = data.compressed()
    return [
        scores(options, data.folder / "scores", folder),
        mosaics("2x2 mosaics from a raw-224 beton", folder, data.beton(folder, "raw"), 3, "encoding: 0.24 ms a mosaic"),
        mosaics(
            "2x2 mosaics from a JPEG-224 beton", folder, data.beton(folder), 1.5, "decoding with accurate DCT: 1.8x"
        ),
    ]


def scores(options: Options, scratch: Path, images: Path) -> Race:
    """Return the race to EL2N and AUM of every sample from logits, over as many epochs as CCS observes on ImageNet."""
    samples, classes, epochs = (96, 100, 2) if options.quick else (1024, 1000, 60)

    def side(name: str, kind: str, some: int = samples, note: str = "", **more: str) -> Contender:
        folder = scratch / f"{kind}{len(more)}"
        file = "official_scoring" if kind in ("Ccs", "DeepCore", "PerSample") else "scoring"
        arguments = {"samples": some, "classes": classes, "epochs": epochs, "scratch": str(folder), **more}
        return Contender(name, f"contenders.{file}:{kind}", arguments, note=note)

    peers = (
        Peer(side("numpy", "Numpy"), 3, "memory: 8.8x"),
        Peer(side("torch", "Torch"), 1.3, "memory: 3.8x"),
        Peer(side("CCS's code", "Ccs", note="it reads the labels from all images", images=str(images)), 50),
        Peer(side("CCS's code, labels given", "Ccs")),
        Peer(side("DeepCore's code", "DeepCore", note="forgetting and three uncertainties; no EL2N, no AUM"), 50),
        Peer(side("per-sample Python (Forgetting's code)", "PerSample", samples // 8), 50),
    )
    note = f"{samples} samples x {classes} classes x {epochs} epochs, one thread on every side"
    return Race("dynamics and scores from logits", "samples/s", side("fastdc", "Ours"), peers, note=note)


def mosaics(work: str, folder: Path, beton: Path, goal: float, limit: str) -> Race:
    """Return a race in mosaics per second, encoded as JPEG q75 in memory."""
    files = {"folder": str(folder)}
    ours = Contender("fastdc", "contenders.mosaics:Ours", {**files, "beton": str(beton)})
    peers = (
        Peer(Contender("RDED's steps (Pillow and torch)", "contenders.mosaics:Rded", files), goal, limit),
        Peer(Contender("Pillow alone", "contenders.mosaics:Pillow", files), goal, limit),
    )
    note = "whole images, no crops; one thread on every side; peers read the JPEG files"
    return Race(work, "mosaics/s", ours, peers, note=note)


if __name__ == "__main__":
    main("kernels", __doc__ or "", races)
