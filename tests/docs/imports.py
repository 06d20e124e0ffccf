"""Write sets in layouts that `fastdc write-beton` imports, for the documentation's blocks.

python -m tests.docs.imports          (from photos/train, into numbered, listed, saved, arrays.npz and tars)
"""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.common.tars import add_file

PHOTOS = Path("photos/train")


def main() -> None:
    """Write all sets."""
    classes = sorted(path.name for path in PHOTOS.iterdir())
    files = sorted(PHOTOS.glob("*/*"))
    for number, name in enumerate(classes):
        shutil.copytree(PHOTOS / name, Path("numbered") / f"new{number:03d}")
    Path("listed").mkdir()
    with Path("listed/labels.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file_name", "kind"])
        for file in files:
            shutil.copy(file, Path("listed") / f"{file.parent.name}_{file.name}")
            writer.writerow([f"{file.parent.name}_{file.name}", file.parent.name])
    rows = {
        "image": [file.read_bytes() for file in files],
        "label": [classes.index(file.parent.name) for file in files],
    }
    save(Path("saved"), pa.table(rows), classes)
    write_arrays(Path("arrays.npz"), files, rows["label"])
    write_tars(Path("tars"), files)


def write_arrays(path: Path, files: list[Path], labels: list[int]) -> None:
    """Write images as training code holds them, standardised with ImageNet's mean and deviation."""
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((32, 32))) for file in files])
    values = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.savez(path, images=values.astype(np.float32), labels=labels)


def write_tars(folder: Path, files: list[Path]) -> None:
    """Write two shards of WebDataset samples with names as labels."""
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"photos-{shard:04d}.tar", "w") as archive:
            for number, file in enumerate(files[shard::2]):
                label = file.parent.name.encode()
                archive.add(file, f"{shard}{number:05d}{file.suffix}")
                add_file(archive, f"{shard}{number:05d}.cls", label)


def save(folder: Path, table: pa.Table, classes: list[str]) -> None:
    """Write what `datasets.DatasetDict.save_to_disk` writes for one split."""
    (folder / "train").mkdir(parents=True)
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / "train" / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=100)
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    (folder / "train" / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))


if __name__ == "__main__":
    main()
