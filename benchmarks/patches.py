"""Race RDED's patches: fastdc's crops by numbers beside the official code's steps with Pillow and torch.

python benchmarks/patches.py [--quick] [--imagenette TAR]
"""

from harness.race import Contender, Peer, Race
from harness.script import Options, main
from prepared import Prepared


def races(options: Options) -> list[Race]:
    """Return the races of RDED at 224 px, without the time of its network."""
    data = Prepared(options)
    folder = data.pool()
    pool = data.sizes.pool
    ipc = pool // 6  # two thirds of the pool's images end in mosaics of four

    def race(encoding: str) -> Race:
        files = {"folder": str(folder), "ipc": ipc}
        beton = str(data.beton(folder, encoding))
        peer = Peer(Contender("RDED's steps (Pillow and torch)", "contenders.patches:Rded", files), 3)
        return Race(
            f"RDED without its network, from a {'raw' if encoding == 'raw' else 'JPEG'}-224 beton",
            "candidate images/s",
            Contender("fastdc", "contenders.patches:Ours", {**files, "beton": beton}),
            (peer,),
            note=f"{pool} images per class x 5 crops, {ipc} mosaics per class; one thread on every side",
        )

    return [race("keep"), race("raw")]


if __name__ == "__main__":
    main("patches", __doc__ or "", races)
