"""Report the bytes of compressed sets as stored, and with Huffman tables made for each image.

    python benchmarks/jpeg_bytes.py SET.beton...

PACT stores its mosaics with such tables, other methods with standard ones. The change of tables loses nothing, so the
second figure compares sets as if one encoder had written all of them.
"""

import io
import sys
from pathlib import Path

from PIL import Image

from fastdc.beton.reader import BetonFile
from fastdc.common.errors import FastDCError


def stored_and_optimised(beton: BetonFile) -> tuple[int, int]:
    """Return the bytes of all images of a set of JPEGs: as stored, and with tables made for each image."""
    files = [bytes(beton.payload(position)) for position in range(len(beton))]
    return sum(map(len, files)), sum(len(with_own_tables(file)) for file in files)


def with_own_tables(file: bytes) -> bytes:
    """Return a JPEG with the same coefficients and Huffman tables made for it."""
    optimised = io.BytesIO()
    with Image.open(io.BytesIO(file)) as image:
        image.save(optimised, "JPEG", quality="keep", optimize=True)
    return optimised.getvalue()


def main(paths: list[str]) -> int:
    """Print a line for each set; return the exit code."""
    for path in paths:
        try:
            stored, optimised = stored_and_optimised(BetonFile(Path(path)))
        except (FastDCError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        print(f"{path}: {stored:,} bytes stored, {optimised:,} with tables of each image ({optimised / stored:.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
