"""Request for the images of an external set: its key, and the beton that it becomes."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdc.beton import Manifest
from fastdc.common.keys import content_key
from fastdc.subsets.compress import CompressResult
from fastdc.subsets.external import ExternalSet, ListRules, ScoreRules
from fastdc.subsets.from_list import compress_list
from fastdc.subsets.from_scores import compress_scores
from fastdc.subsets.store_subset import STORAGE_VERSION


def beton_key(name: str, content_hash: str) -> str:
    """Return the key of an imported beton; see `ExternalRequest.key`."""
    return content_key({"external": "beton", "name": name, "content": content_hash})


@dataclass(frozen=True, kw_only=True)
class ExternalRequest:
    """Request for the images of an external set, beside `SubsetRequest`.

    Attributes:
        source: the set.
        train, manifest: the training set that its file refers to.
        ipc: images per class that scores choose; other sets ignore it.
        image_size: side S of the stored images in pixels.
    """

    source: ExternalSet
    train: Path
    manifest: Manifest
    ipc: int
    image_size: int

    def identity(self) -> dict[str, Any]:
        """Return all inputs that determine the images, and the name, which gives a set its own row."""
        source = self.source
        found = {"external": source.kind, "name": source.name, "content": source.content}
        if source.kind == "beton":  # trained on as it is
            return found
        made = {"storage": STORAGE_VERSION, "train": self.manifest.content_hash, "image_size": self.image_size}
        made |= {} if source.counts is not None else {"ipc": self.ipc}
        return {**found, **made, "rules": source.rules.model_dump(mode="json")}

    @property
    def key(self) -> str:
        """Return the content key of `identity`."""
        return content_key(self.identity())

    @property
    def given(self) -> Path | None:
        """Return the beton that is trained on as it is; None if the images have to be stored first."""
        return self.source.path if self.source.kind == "beton" else None

    @property
    def images(self) -> int:
        """Return the number of images."""
        counts = self.source.counts
        return self.ipc * len(self.manifest.classes) if counts is None else sum(counts)


def make_external(request: ExternalRequest, out: Path) -> CompressResult:
    """Store the images of a list or of scores at `out`, as `fastdc compress from-list` or `from-scores` does.

    Existing files are replaced.

    Raises:
        MethodError: the file changed since it was read.
        FastDCError: see `compress_list` and `compress_scores`.
    """
    source, start = request.source, time.monotonic()
    source.check()
    made = _store(request, out)
    source.check()  # the file may have changed while it was read
    return CompressResult(made, {"writing": time.monotonic() - start})


def _store(request: ExternalRequest, out: Path) -> Manifest:
    files, size, rules = (request.source.path, request.train, out), request.image_size, request.source.rules
    if isinstance(rules, ScoreRules):
        return compress_scores(
            *files,
            ipc=request.ipc,
            config=rules.config,
            score=rules.score,
            high=rules.high,
            image_size=size,
            index_order=rules.index_order,
            force=True,
        )
    assert isinstance(rules, ListRules)
    return compress_list(*files, image_size=size, fit=rules.fit, index_order=rules.index_order, force=True)
