"""Define `fastdc.json`, the record that travels with an exported set and restores it."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fastdc.beton.manifest import Manifest, dump_manifest
from fastdc.common.errors import ManifestError

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
        place: where it lies, for messages.

    Raises:
        ManifestError: the data is no such record, or of a newer version.
    """
    try:
        return Exported.model_validate_json(data)
    except ValidationError as error:
        version = _version(data)
        if isinstance(version, int) and version > EXPORT_VERSION:
            wanted = f"export version {version}, this fastdc reads up to {EXPORT_VERSION}; update fastdc"
            raise ManifestError(f"{place}: {wanted}") from error
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ManifestError(
            f"{place}: not the record of an export: {where}: {first['msg']}; export the set again, or remove "
            "this file to write the images as any others"
        ) from error


def _version(data: bytes) -> object:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value.get("export_version") if isinstance(value, dict) else None
