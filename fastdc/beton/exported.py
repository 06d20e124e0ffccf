"""Define `fastdc.json`, the record that travels with an exported set and restores it."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fastdc.beton.manifest import Manifest, dump_manifest, parse_versioned

RECORD = "fastdc.json"
"""Name of the record: a file beside the images, or a member of an archive of arrays."""
EXPORT_VERSION = 1


class Exported(BaseModel):
    """Record of an exported set.

    Attributes:
        export_version: version of this layout.
        layout: name of the export's layout.
        split: the split under which the export's images are found; None if it has no splits.
        folders: per class, the name of its folder; None if images carry class numbers.
        files: number of files in the export, this one included.
        manifest: manifest of the set that the images give when they are written as a beton again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    export_version: int = EXPORT_VERSION
    layout: str
    split: str | None
    folders: tuple[str, ...] | None
    files: int
    manifest: Manifest


def dump_record(record: Exported) -> Iterator[bytes]:
    """Yield the record as JSON in pieces, with the manifest as its last field."""
    fields = record.model_dump(mode="json", exclude={"manifest"})
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in fields.items())
    yield ("{\n" + "".join(lines) + '"manifest": ').encode()
    yield from dump_manifest(record.manifest)
    yield b"}\n"


def parse_record(data: bytes, place: Path) -> Exported:
    """Read a record.

    Args:
        data: its JSON.
        place: its path, for messages.

    Raises:
        ManifestError: the data is no such record, or of a newer version.
    """
    remedy = "export the set again, or remove this file to write the images as any others"
    return parse_versioned(Exported, data, place, "export_version", "the record of an export", remedy)
