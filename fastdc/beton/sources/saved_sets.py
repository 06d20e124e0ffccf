"""Read folders that `save_to_disk` of Hugging Face `datasets` wrote, without that package.

    dataset_dict.json  train/...  test/...                          a DatasetDict: names of splits, a folder for each
    state.json  dataset_info.json  data-00000-of-00002.arrow        a Dataset: list of files, features, Arrow streams

Source: `datasets` 4, arrow_dataset.py and dataset_dict.py; the format is the same since version 1.2.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastdc.beton.sources.arrow_columns import Columns, names_of_features
from fastdc.beton.sources.sharded_rows import ShardedRows, ShardFile
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.splits import check_own_split, choose_split
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_MAX_JSON = 1 << 26
_END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowShard(ShardFile):
    """One open file that holds a stream of Arrow record batches, mapped into memory.

    Only the pages in use are in memory, and the system takes them back. A file that is cut while it is read ends the
    process, as with every mapped file; the check of its size before each batch makes that unlikely.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._arrow, self._path, self._size = pyarrow, path, path.stat().st_size
        with path.open("rb") as handle:
            handle.seek(max(0, self._size - len(_END_MARK)))
            if handle.read() != _END_MARK:
                raise SourceError(f"{path}: lacks the end mark of an Arrow stream, so it is cut off: get it again")
        self._memory = pyarrow.memory_map(str(path))
        self.schema = self._stream().schema

    def __exit__(self, *error: object) -> None:
        self._memory.close()

    def _stream(self) -> Any:
        self._memory.seek(0)
        return self._arrow.ipc.open_stream(self._memory)

    def _read(self, name: str) -> Iterator[Any]:
        for batch in self._stream():
            if self._path.stat().st_size != self._size:
                raise SourceError(f"{self._path}: changed while it was read; run again when no process writes to it")
            column = batch.column(name)
            column.validate(full=True)  # a stream is not checked as it is read, and damage would crash the process
            yield column

    def read_column(self, name: str) -> Any:
        return self._arrow.chunked_array(list(self._read(name)), self.schema.field(name).type)

    def read_images(self, columns: Columns) -> Iterator[Any]:
        for column in self._read(columns.image):
            if columns.leaf == columns.image:
                yield column
            else:
                yield column.flatten()[column.type.get_field_index("bytes")]


class SavedSet(ShardedRows):
    """Arrow files of one split; see `ShardedRows`.

    Args:
        source: folder of a DatasetDict or of a Dataset.
        options: `split` chooses a split of a DatasetDict.
    """

    form = "an Arrow stream"

    def __init__(self, source: Path, options: SourceOptions) -> None:
        self._folder = _find_folder(source, options.split)
        place = self._folder.relative_to(source)
        super().__init__(source, [str(place / name) for name in _list_files(self._folder)], options)

    def _open_file(self, path: Path) -> ShardFile:
        return ArrowShard(path)

    def _known_names(self, columns: Columns) -> tuple[tuple[str, ...] | None, str]:
        info = self._folder / INFO
        if columns.names is not None or columns.text or not info.is_file():
            return columns.names, "hub"
        return names_of_features(_read_json(info).get("features")).get(columns.label), "hub"


def _find_folder(source: Path, split: str | None) -> Path:
    """Return the folder of a split of a DatasetDict; `source` itself if it is a Dataset."""
    if not (source / DICT).is_file():
        own = _read_json(source / STATE).get("_split")
        check_own_split(own if isinstance(own, str) else None, split, source)
        return source
    names = [_plain_name(name, source / DICT) for name in _list_of(_read_json(source / DICT).get("splits"))]
    return source / choose_split(names, split, source)


def _list_files(folder: Path) -> list[str]:
    """Return the names of the Arrow files of a Dataset, in the order of their rows."""
    state = _read_json(folder / STATE)
    if any(state.get(name) for name in ("_indices_data_files", "_indices_files")):
        raise SourceError(
            f"{folder}: keeps its rows apart from their order, as old versions of `datasets` did; save it again with "
            f"datasets.load_from_disk({str(folder)!r}).flatten_indices().save_to_disk(NEW)"
        )
    entries = state.get("_data_files")
    files = [item.get("filename") if isinstance(item, dict) else None for item in _list_of(entries)]
    names = [_plain_name(name, folder / STATE) for name in files]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        found = f"{len(missing)} of the {len(names)} files that it lists missing" if names else "lists no files"
        first = f", the first is {missing[0]}" if missing else ""
        raise SourceError(f"{folder / STATE}: {found}{first}; copy the whole folder again")
    return names


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _plain_name(name: Any, path: Path) -> str:
    if not isinstance(name, str) or not name or "/" in name or "\\" in name or name.startswith("."):
        raise SourceError(f"{path}: names {name!r}, expected the name of a file or folder beside it; get the set again")
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise SourceError(f"{path}: {path.stat().st_size} bytes, expected a small file of save_to_disk")
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}: cannot be read as JSON ({one_line(error)}); copy the whole folder that save_to_disk wrote again"
        ) from error
    if not isinstance(values, dict):
        raise SourceError(f"{path}: expected an object with the fields that save_to_disk writes; get the set again")
    return values
