"""Define bundle.json, the first file of a bundle: what the archive holds, with sizes and hashes."""

from typing import Literal

from pydantic import Field

from fastdc.common.settings import Settings

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
    files: dict[str, FileFacts]
