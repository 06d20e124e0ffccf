"""Folder that `save_to_disk` of Hugging Face `datasets` wrote."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import SourceError

DATA = "data-00000-of-00001.arrow"


class Saved(Source):
    """Dataset or DatasetDict on disk, read with pyarrow alone."""

    name = "saved-set"
    title = "folder of save_to_disk of Hugging Face datasets: Arrow files and state.json, or splits of them"
    rank = 15
    reads = ("image_column", "label_column")

    def recognises(self, path: Path) -> bool:
        """Return whether a folder has the files that `save_to_disk` writes."""
        state = (path / "state.json").is_file()
        return (path / "dataset_dict.json").is_file() or (
            state and ((path / "dataset_info.json").is_file() or any(path.glob("*.arrow")))
        )

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. The set may always lack images of some classes."""
        from fastdc.beton.sources.saved_sets import SavedSet  # only this kind needs the module

        rows = SavedSet(path, options)
        yield Opened(path, rows, rows.contents, dataset_name(path, rows.name), options.split, rows.made)

    def example(self, folder: Path) -> Path:
        """See `Source`. Needs pyarrow."""
        arrow, images = import_pyarrow(f"{folder}: writing Arrow", SourceError), example_images()
        classes = sorted({name for name, _, _ in images})
        rows = {"image": [data for _, _, data in images], "label": [classes.index(name) for name, _, _ in images]}
        table = arrow.table(rows)
        with arrow.OSFile(str(folder / DATA), "wb") as file, arrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=5)
        features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
        (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": DATA}], "_split": None}))
        return folder


SOURCE = Saved()
