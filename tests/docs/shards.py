"""Write a parquet shard as the Hugging Face hub has them, for the documentation's blocks.

python -m tests.docs.shards FOLDER [IMAGES]          (IMAGES: a folder CLASS/IMAGE, default photos/train)
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def main(folder: Path, images: Path) -> None:
    """Write one shard of the split "train" with unnamed numeric labels."""
    folder.mkdir(parents=True)
    classes = sorted(path.name for path in images.iterdir())
    files = sorted(images.glob("*/*"))
    rows = [{"image": {"bytes": file.read_bytes(), "path": file.name}} for file in files]
    labels = [classes.index(file.parent.name) for file in files]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([row["image"] for row in rows], struct), "label": pa.array(labels)})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("photos/train"))
