"""Write sets in layouts that `fastdc write-beton` imports, for the documentation's blocks.

python -m tests.docs.imports          (from the images of photos/train, into numbered, listed and saved)
"""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa

PHOTOS = Path("photos/train")


def main() -> None:
    """Write the three sets."""
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
