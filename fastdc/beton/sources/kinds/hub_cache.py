"""Repository in the Hugging Face hub's disk cache, which stands for its newest snapshot."""

from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

from fastdc.beton.sources.hub_cache import enter_hub_cache
from fastdc.beton.sources.kinds import folder as image_folder
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.errors import SourceError

REVISION = "0" * 40


class HubCache(Source):
    """Repository in the hub's cache, whose snapshot is a source of any other kind."""

    name = "hub-cache"
    title = "datasets--OWNER--NAME of the Hugging Face hub's cache: the newest snapshot"
    rank = 10
    reads = tuple(item.name for item in fields(SourceOptions))  # the snapshot's kind refuses those it does not read

    def recognises(self, path: Path) -> bool:
        """Return whether a path lies in a cache where its snapshot has to be found, or cannot be."""
        try:
            return enter_hub_cache(path) != path
        except SourceError:  # `open` raises it again
            return True

    def open(self, path: Path, options: SourceOptions) -> AbstractContextManager[Opened]:
        return open_source(enter_hub_cache(path), options)

    def example(self, folder: Path) -> Path:
        repository = folder / "datasets--fastdc--example"
        for part in ("blobs", "refs", f"snapshots/{REVISION}"):
            (repository / part).mkdir(parents=True)
        (repository / "refs" / "main").write_text(REVISION)
        image_folder.SOURCE.example(repository / "snapshots" / REVISION)
        return repository


SOURCE = HubCache()
