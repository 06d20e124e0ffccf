"""Define, read, write and check the manifest `X.json` of a `X.beton`.

It holds the classes, ids and content hashes, and records how the file was made.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from fastdc.beton.format import Structure, as_bytes, make_preamble
from fastdc.beton.missing_manifest import manifest_remedy, warn_missing
from fastdc.beton.reader import BetonFile, inspect_beton
from fastdc.beton.sample_order import Order
from fastdc.beton.texts import Texts
from fastdc.common.errors import BetonError, ManifestError
from fastdc.common.keys import bytes_key, content_key

SCHEMA_VERSION = 1
MANIFEST_OPENING = b'{\n"schema_version": '
"""First bytes of every manifest that `dump_manifest` writes."""
INFERRED = "inferred from the beton"
"""Value of `made.tool` in a manifest that was inferred because the file's own is missing."""
ModelT = TypeVar("ModelT", bound=BaseModel)
_BLOCK = 1 << 14  # samples held as Python objects at one time while a manifest is written or checked


class Skipped(BaseModel):
    """A file that was left out, and the reason.

    Attributes:
        path: relative to the split's folder.
        reason: what was found, in plain words.
        kind: "not_image" for files without an image's suffix beside the images (notes.txt); "unreadable" for images
            that should have been stored, but are damaged or have no usable label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    reason: str
    kind: Literal["not_image", "unreadable"] = "unreadable"


class Manifest(BaseModel):
    """Description of a beton's contents and origin. It does not depend on time, machine or number of workers.

    Attributes:
        schema_version: version of this layout.
        dataset: name of the data set.
        split: "train", "val", ... or None.
        classes: C class names; label i is `classes[i]`.
        counts: images per class [C].
        ids: per sample, its path relative to the split's folder ("class/image.jpg"); bytes that are not UTF-8 are
            escaped.
        hashes: per sample, `bytes_key` of its payload.
        source: name of the source folder or archive.
        made: tool, encoding, quality, resolution, ...
        converted: number of images per conversion ({"cmyk": 22, "png": 1}); one image may count twice. "lossy" counts
            the images that encoding "keep" stored as JPEG because they are too large for raw pixels.
        skipped: files that were left out.
        hints: facts that training needs (`tile_grid`).
        order: whether sample i is sample i of torchvision's ImageFolder over the same folder (`Order`); None in files
            of fastdc before 0.2, which did not record it.
        image_bytes: bytes of the images. Compressed sets and those written from memory count raw pixels as PNG.
            Converted sources count payloads as stored. Results use `count_image_bytes`, one rule for every beton.
        content_hash: identity of the data: classes, labels, payload hashes and hints.
        file_bytes: length of the beton.
        structure_hash: hash of the beton's header, metadata and allocation table; it ties the two files together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    dataset: str
    split: str | None
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    ids: Texts
    hashes: Texts
    source: str
    made: dict[str, JsonValue]
    converted: dict[str, int]
    skipped: tuple[Skipped, ...]
    hints: dict[str, JsonValue]
    order: Order | None = None
    image_bytes: int
    content_hash: str
    file_bytes: int
    structure_hash: str

    @property
    def inferred(self) -> bool:
        """Return whether no manifest was found, so that classes and ids are numbers and hints are unknown."""
        return self.made.get("tool") == INFERRED

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Manifest":
        if len(self.classes) != len(self.counts):
            raise ValueError(f"{len(self.classes)} classes but {len(self.counts)} counts")
        if not len(self.ids) == len(self.hashes) == sum(self.counts):
            raise ValueError(f"{len(self.ids)} ids, {len(self.hashes)} hashes, counts sum to {sum(self.counts)}")
        return self


def manifest_path(beton: Path) -> Path:
    """Return the path of the manifest of `beton`: X.json for X.beton."""
    return Path(beton).with_suffix(".json")


def load_manifest(beton: Path) -> Manifest:
    """Read the manifest of `beton`, and check by file size and structure that the two belong together.

    Payloads are not read.

    Raises:
        BetonError: the beton is missing or damaged.
        ManifestError: the manifest is missing, damaged, or belongs to another beton.
    """
    path = manifest_path(beton)
    if not path.exists():
        raise ManifestError(f"{path}: manifest of {beton} is missing; {manifest_remedy(beton)}")
    manifest = parse_manifest(path)
    structure, problems = inspect_beton(Path(beton))
    if structure is None or problems:
        raise BetonError(f"{beton}: {problems[0]}")
    mismatch = find_mismatch(manifest, structure)
    if mismatch:
        raise ManifestError(f"{path}: does not belong to {beton}: {mismatch}; write both again with --force")
    return manifest


def parse_manifest(path: Path) -> Manifest:
    """Read a manifest file without its beton.

    Raises:
        ManifestError: the file is unreadable, not JSON, of a newer version, or has invalid fields.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_versioned(Manifest, data, path, "schema_version", "a fastdc manifest", "write it again")


def parse_versioned(model: type[ModelT], data: bytes, place: Path, field: str, what: str, remedy: str) -> ModelT:
    """Parse the JSON of a model that holds the version of its layout.

    Args:
        model: the model.
        data: its JSON.
        place: path of the data, for messages.
        field: field of the version; its default is the newest one.
        what, remedy: the model and an advice, for messages.

    Raises:
        ManifestError: the data is no such JSON, or of a newer version.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        version, newest = _version(data, field), model.model_fields[field].default
        if isinstance(version, int) and version > newest:  # a newer layout may fail on any field
            wanted = f"{field.replace('_', ' ')} {version}, this fastdc reads up to {newest}; update fastdc"
            raise ManifestError(f"{place}: {wanted}") from error
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ManifestError(f"{place}: not {what}: {where}: {first['msg']}; {remedy}") from error


def _version(data: bytes, field: str) -> object:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value.get(field) if isinstance(value, dict) else None


def find_mismatch(manifest: Manifest, structure: Structure) -> str | None:
    """Return the reason why `manifest` does not belong to the beton of this structure; None if it does."""
    samples = len(structure.metadata)
    if manifest.schema_version != SCHEMA_VERSION:
        return f"schema version {manifest.schema_version}, expected {SCHEMA_VERSION}"
    if len(manifest.ids) != samples:
        return f"it lists {len(manifest.ids)} samples, the beton holds {samples}"
    if manifest.file_bytes != structure.file_bytes:
        return f"it expects a beton of {manifest.file_bytes} bytes, found {structure.file_bytes}"
    labels = structure.metadata["label"]
    if labels.min() < 0 or labels.max() >= len(manifest.classes):
        return f"labels {labels.min()}..{labels.max()} in the beton, but {len(manifest.classes)} classes"
    counts = np.bincount(labels, minlength=len(manifest.classes))
    if not np.array_equal(counts, manifest.counts):
        return "its images per class are not those of the beton"
    if manifest.structure_hash != hash_structure(structure):
        return "header, labels or positions of the beton are not those it was written with"
    if manifest.content_hash != hash_content(manifest.classes, labels, manifest.hashes, manifest.hints):
        return "its classes, hashes or hints were changed after it was written"
    return None


def hash_structure(structure: Structure) -> str:
    """Hash the header, descriptors, metadata and allocation table (32 hex digits)."""
    digest = hashlib.sha256(make_preamble(len(structure.metadata), structure.page_size, structure.table_start))
    digest.update(as_bytes(structure.metadata))
    digest.update(as_bytes(structure.allocations))
    return digest.hexdigest()[:32]


def hash_content(
    classes: Sequence[str], labels: NDArray[np.int64], hashes: Sequence[str], hints: dict[str, Any]
) -> str:
    """Hash the data's identity: equal classes, labels, payloads and hints give equal keys in any file layout."""
    digest, keys = hashlib.sha256(), iter(hashes)
    for start in range(0, len(labels), _BLOCK):
        block = labels[start : start + _BLOCK].tolist()
        lines = [f"{label} {key}" for label, key in zip(block, islice(keys, len(block)), strict=True)]
        # The newline between blocks makes the digest that of all lines joined, independent of `_BLOCK`.
        digest.update(("\n" * (start > 0) + "\n".join(lines)).encode())
    return content_key({"classes": list(classes), "samples": digest.hexdigest()[:32], "hints": hints})


def dump_manifest(manifest: Manifest) -> Iterator[bytes]:
    """Yield the manifest as JSON in pieces, one line per field: readable at the top, and quick to parse."""
    fields = manifest.model_dump(mode="json", exclude={"ids", "hashes"})
    for long in ("converted", "skipped"):  # last of the short fields, so that `head` shows what the file is
        fields[long] = fields.pop(long)
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    yield ("{\n" + ",\n".join(lines)).encode()
    for name, texts in (("ids", manifest.ids), ("hashes", manifest.hashes)):
        yield f",\n{json.dumps(name)}: [".encode()
        left = iter(texts)
        for start in range(0, len(texts), _BLOCK):
            block = json.dumps(list(islice(left, _BLOCK)), ensure_ascii=False)
            yield (", " * (start > 0) + block[1:-1]).encode()
        yield b"]"
    yield b"\n}\n"


def sample_id(file: BetonFile, index: int) -> str | None:
    """Return the id of sample `index` for a message; None if this file has no valid manifest. Never raises."""
    try:
        manifest = parse_manifest(manifest_path(file.path))
    except ManifestError:
        return None
    return None if find_mismatch(manifest, file.structure) else manifest.ids[index]


def describe_beton(beton: Path) -> Manifest:
    """Return the manifest of `beton`; if none is beside it (a stock FFCV file), infer one from the file.

    A missing manifest is reported in one line on stderr. An inferred one has no hints, the classes "0".."max", the ids
    "0".."N-1", and hashes that are computed by reading every payload.

    Raises:
        BetonError: the beton is missing or damaged.
        ManifestError: a manifest is beside the beton but is damaged or belongs to another one.
    """
    beton = Path(beton)
    if manifest_path(beton).exists():
        return load_manifest(beton)
    with BetonFile(beton) as file:
        warn_missing(beton, manifest_path(beton))
        hashes = Texts.of(bytes_key(file.payload(index)) for index in range(len(file)))
        classes = tuple(str(label) for label in range(int(file.labels.max()) + 1))
        return Manifest(
            dataset=beton.stem,
            split=None,
            classes=classes,
            counts=tuple(np.bincount(file.labels, minlength=len(classes)).tolist()),
            ids=Texts.of(map(str, range(len(file)))),
            hashes=hashes,
            source=beton.name,
            made={"tool": INFERRED},
            converted={},
            skipped=(),
            hints={},
            image_bytes=file.payload_bytes,
            content_hash=hash_content(classes, file.labels, hashes, {}),
            file_bytes=file.structure.file_bytes,
            structure_hash=hash_structure(file.structure),
        )


def unknown_classes(*betons: tuple[Path, Manifest]) -> str | None:
    """Return the reason why these betons' classes cannot be compared by name; None if all have a manifest."""
    for path, manifest in betons:
        if manifest.inferred:
            return (
                f"{path}: its manifest {manifest_path(path).name} is missing, so its classes are only "
                f"known as 0..{len(manifest.classes) - 1}; {manifest_remedy(path)}"
            )
    return None
