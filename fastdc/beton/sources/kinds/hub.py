"""Data set on the Hugging Face hub, which is downloaded into the hub's cache."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from fastdc.beton.sources.hub_download import SCHEME, download, is_address, parse_address
from fastdc.beton.sources.kinds import hub_cache
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions


class Hub(Source):
    """Address on the hub, whose files are a source of any other kind."""

    name = "hub"
    title = "hf://OWNER/NAME[@REVISION][/FOLDER]: a data set of the Hugging Face hub, downloaded into its cache"
    rank = 5
    reads = tuple(item.name for item in fields(SourceOptions))  # the kind of its files refuses those it does not read

    def recognises(self, path: Path) -> bool:
        """Return whether a path is an address."""
        return is_address(path)

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        address = parse_address(path)
        snapshot = download(address)
        with open_source(snapshot / address.folder, options) as opened:
            origin = {"repository": address.repository, "revision": snapshot.name}
            dataset = address.repository.partition("/")[2]
            yield opened._replace(dataset=dataset, made={**opened.made, **origin})

    def example(self, folder: Path) -> Path:
        """See `Source`. The cache `folder` holds the files and the list of them, so no network is needed."""
        repository = hub_cache.SOURCE.example(folder)
        snapshot = repository / "snapshots" / hub_cache.REVISION
        files = {
            str(path.relative_to(snapshot)): {"size": path.stat().st_size, "blob_id": "0" * 40}
            for path in sorted(snapshot.glob("*/*"))
        }
        (repository / "trees").mkdir()
        listing = {"format_version": 1, "files": files}
        (repository / "trees" / f"{hub_cache.REVISION}.json").write_text(json.dumps(listing))
        return folder / f"{SCHEME}/fastdc/example@{hub_cache.REVISION}"


SOURCE = Hub()
