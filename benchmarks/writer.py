"""Race the writing of betons: images per second of fastdc beside stock FFCV's `DatasetWriter`, and beside the disk.

    python benchmarks/writer.py [--quick] [--imagenette TAR]

Stock FFCV reads torchvision's `ImageFolder` and stores 'jpg', so it decodes and encodes every image. `keep` copies a
JPEG unchanged. Our side flushes the file to the disk, stock FFCV does not.
"""

from contenders.stock_ffcv import ENVIRONMENT
from harness.race import Contender, Peer, Race
from harness.script import Options, main
from prepared import Prepared

WORKERS = (1, 2, 4)


def races(options: Options) -> list[Race]:
    """Return the races: copying a 224-px folder, and resizing a folder of 160 to 500 px to 224."""
    data = Prepared(options)
    scratch = data.folder / "written"
    photos, odd = str(data.photos()), str(data.odd())

    def ours(folder: str, **settings: object) -> Contender:
        arguments = {"folder": folder, "out": str(scratch / "ours.beton"), "settings": settings}
        return Contender("fastdc", "contenders.ours:Writer", arguments, WORKERS)

    def stock(folder: str, side: int | None) -> Contender:
        arguments = {"folder": folder, "out": str(scratch / "stock.beton"), "max_resolution": side}
        return Contender(
            "stock FFCV DatasetWriter 'jpg'", "contenders.stock_ffcv:Writer", arguments, WORKERS, ENVIRONMENT
        )

    disk = Contender("the disk alone", "contenders.ours:Disk", {"folder": photos, "out": str(scratch / "disk")})
    return [
        Race(
            "write a 224-px JPEG folder, keep",
            "images/s",
            ours(photos, encoding="keep"),
            (
                Peer(stock(photos, None), 10, "CPU: about 37x (20 us a file)", wall=disk.name),
                Peer(disk, None, "1x: the same bytes, written in one piece and flushed"),
            ),
            note=data.description,
        ),
        Race(
            "write 160..500-px JPEGs resized to 224, 'jpg'",
            "images/s",
            ours(odd, resolution=224),
            (Peer(stock(odd, 224), 1.5, "decoding and encoding alone: about 60 % of stock's CPU time"),),
            note="square images, for which FFCV's limit on the longer side and ours on the shorter one are the same",
        ),
    ]


if __name__ == "__main__":
    main("writer", __doc__ or "", races)
