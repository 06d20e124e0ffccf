"""Read images from parquet shards, the format of most image sets and compressed sets on the Hugging Face hub.

Images are read as a stream of pages, which hold at most a few thousand rows. Memory therefore does not grow with the
row groups, of which some files have only one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastdc.beton.sources.arrow_columns import Columns, column_bytes
from fastdc.beton.sources.readme_names import readme_names
from fastdc.beton.sources.sharded_rows import ShardedRows, ShardFile
from fastdc.beton.sources.shards import find_shards
from fastdc.beton.sources.source_options import SourceOptions

_BATCH_BYTES, _MAX_BATCH = 8 << 20, 1024


class ParquetShard(ShardFile):
    """One open parquet file."""

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        # Without a buffer size, Arrow reads the whole column of a row group into memory first.
        self._file = ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        self.schema = self._file.schema_arrow

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read_column(self, name: str) -> Any:
        return self._file.read(columns=[name], use_threads=False).column(0)

    def read_images(self, columns: Columns) -> Iterator[Any]:
        """See `ShardFile`. Arrays take a few MiB each."""
        data = self._file.metadata
        bytes_per_row = max(1, column_bytes(data, columns.leaf) // max(1, data.num_rows))
        size = max(1, min(_MAX_BATCH, _BATCH_BYTES // bytes_per_row))
        for batch in self._file.iter_batches(size, columns=[columns.leaf], use_threads=False):
            column = batch.column(0)
            # A struct column comes with the selected leaf as its only field.
            yield column if columns.leaf == columns.image else column.flatten()[0]


class ParquetShards(ShardedRows):
    """Parquet shards of one split; see `ShardedRows`.

    Args:
        source: a folder of shards, or one shard.
        options: for `split`, see `find_shards`.
    """

    form = "parquet"

    def __init__(self, source: Path, options: SourceOptions) -> None:
        super().__init__(source, find_shards(source, options.split), options)

    def _open_file(self, path: Path) -> ShardFile:
        return ParquetShard(path)

    def _known_names(self, columns: Columns) -> tuple[tuple[str, ...] | None, str]:
        if columns.names is not None or columns.text:
            return columns.names, "hub"
        return readme_names(self._source, self._shards[0], columns.label), "README"
