"""Define bundle.json, the first file of a bundle: what the archive holds, with sizes and hashes."""

from typing import Literal

from pydantic import Field

from fastdc.common.settings import Settings
from fastdc.subsets.external_names import Kind

FORMAT = 1
"""Newest layout of a bundle that this version reads; the value of `Index.format`."""
INDEX, ROWS, ENVIRONMENT, COMMANDS = "bundle.json", "rows.jsonl", "environment.json", "commands.sh"


class FileFacts(Settings):
    """Size in bytes and SHA-256 of a file in the archive."""

    bytes: int = Field(ge=0)
    sha256: str


class DataFacts(Settings):
    """Data set that sweeps ran on.

    Attributes:
        name: its name in the bundled sweeps and commands: train, val, train-2, ...
        content_hash: identity of the data, as in a manifest.
        manifest: its manifest in the archive; None if it was not found.
        command: how to write the data again; a comment if that is not known.
    """

    name: str
    content_hash: str
    manifest: str | None
    command: str


class SweepFacts(Settings):
    """Sweep that ran in the folder.

    Attributes:
        file: its YAML file in the archive.
        device: type of device that it planned for.
        train, val: names of its data sets; `val` is None for a sweep with `holdout`.
    """

    file: str = Field(pattern=r"^sweeps/[0-9]+\.yaml$")
    device: str
    train: str
    val: str | None


class SubsetFacts(Settings):
    """Compressed set that rows were trained on.

    Attributes:
        content_hash: identity of the set, as in its manifest.
        method, version: what made it; None if the manifest does not name it.
    """

    content_hash: str
    method: str | None
    version: int | None


class ExternalFacts(Settings):
    """File of an external set that rows were trained on.

    Attributes:
        name: what tables call the set.
        kind: beton, list or scores.
        path: where the file was, absolute.
        content: key of what it held; see `fastdc.subsets.external.content_of`.
        file: the file in the archive, by which the bundled sweeps name it; None if it is not packed.
    """

    name: str
    kind: Kind
    path: str
    content: str
    file: str | None = Field(pattern=r"^external/[0-9a-f]{12}/[^/\\:]+$")


class Index(Settings):
    """Contents of bundle.json.

    Attributes:
        format: version of the layout.
        written_by: version of fastdc that packed the bundle.
        rows: number of rows by state.
        left_out: number of runs that had not ended, by state.
        notes: what is missing, in sentences.
        data, sweeps: see the classes.
        subsets: facts on the compressed sets by the name of their beton.
        external: facts on the files of external sets.
        files: facts on every other file of the archive by name.
    """

    format: Literal[1] = 1
    written_by: str
    rows: dict[str, int]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    data: tuple[DataFacts, ...]
    sweeps: tuple[SweepFacts, ...]
    subsets: dict[str, SubsetFacts]
    external: tuple[ExternalFacts, ...] = ()
    files: dict[str, FileFacts]
