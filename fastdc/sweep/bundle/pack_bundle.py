"""Pack the results of a work folder, and what explains them, into one archive."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastdc._version import __version__
from fastdc.beton.manifest import Manifest, manifest_path, parse_manifest
from fastdc.common.errors import ManifestError, StoreError
from fastdc.common.files import check_output, store_path
from fastdc.common.keys import bytes_key, file_key
from fastdc.subsets.lists import list_path
from fastdc.sweep.bundle.bundle_archive import Content, Packed, check_suffix, write_archive
from fastdc.sweep.bundle.bundle_index import (
    COMMANDS,
    ENVIRONMENT,
    INDEX,
    ROWS,
    DataFacts,
    ExternalFacts,
    FileFacts,
    Index,
    SubsetFacts,
    SweepFacts,
)
from fastdc.sweep.bundle.external_files import in_bundle, pack_external
from fastdc.sweep.bundle.write_commands import commands_text, write_command
from fastdc.sweep.store.results import Record, Store
from fastdc.sweep.store.row_lines import Row, make_row, rows_text, sort_rows
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.sweep_record import FOLDER, read_records

ENDED = ("done", "failed", "diverged", "skipped")
MADE_BY = ("fastdc", "git", "python", "libraries", "host", "device", "device_name", "precision", "threads")
"""Fields of a run's provenance that describe the machine and its software."""


def write_bundle(workdir: Path, out: Path, *, with_subsets: bool = False, force: bool = False) -> Index:
    """Pack a sweep's work folder into a zip or tar.gz; equal folders give equal bytes.

    Sweeps may run in the folder meanwhile; their unfinished runs are left out, and counted.

    Args:
        workdir: the folder.
        out: the archive to write; its suffix decides the form.
        with_subsets: also pack the betons of compressed and external sets.
        force: whether an existing file may be replaced.

    Returns:
        The index of the bundle.

    Raises:
        StoreError: there is no store, it is damaged, no run has ended, no sweep is recorded, or `with_subsets` and a
            set is missing.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_suffix(out)
    check_output(out, force)
    rows, left_out = _read_rows(workdir)
    records = read_records(workdir)
    if not records:
        raise StoreError(
            f"{workdir / FOLDER}: no sweep is recorded here, because an older fastdc ran it; run its command once more "
            "(finished runs stay), then bundle"
        )
    data = _pack_data(records)
    external = pack_external(rows, with_subsets)
    sweeps = _pack_sweeps(records, data.facts, external.facts)
    subsets = _pack_subsets(workdir, rows, with_subsets)
    commands = [(facts.command, facts.content_hash) for facts in data.facts]
    members = {
        ROWS: rows_text(rows).encode(),
        ENVIRONMENT: _json(_environments(rows)),
        COMMANDS: commands_text(commands, external.facts, sweeps.members, __version__).encode(),
        **sweeps.members,
        **data.members,
        **subsets.members,
        **external.members,
    }
    index = Index(
        written_by=__version__,
        rows=dict(sorted(Counter(row["state"] for row in rows).items())),
        left_out=dict(sorted(left_out.items())),
        notes=(*data.notes, *subsets.notes, *external.notes),
        data=tuple(data.facts),
        sweeps=tuple(sweeps.facts),
        subsets=subsets.facts,
        external=tuple(external.facts),
        files={name: _facts(content) for name, content in members.items()},
    )
    write_archive(out, {INDEX: _json(index.model_dump(mode="json")), **members})
    return index


def _json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def _facts(content: Content) -> FileFacts:
    if isinstance(content, bytes):
        return FileFacts(bytes=len(content), sha256=bytes_key(content, 64))
    return FileFacts(bytes=content.stat().st_size, sha256=file_key(content, 64))


def _read_rows(workdir: Path) -> tuple[list[Row], Counter[str]]:
    """Return the runs that have ended, and how many have not, by state."""
    with Store(store_path(workdir), readonly=True) as store:
        records, axes = store.records(), store.axes()
        rows = [_row(store, record, axes[record.key]) for record in records if record.state in ENDED]
    if not rows:
        raise StoreError(f"{workdir}: no run has ended yet; nothing to bundle")
    return sort_rows(rows), Counter(record.state for record in records if record.state not in ENDED)


def _row(store: Store, record: Record, axes: str) -> Row:
    more = {"state": record.state, "reason": record.reason, "failure": record.failure, "changed": record.changed}
    return {**make_row(store, record, axes), **more}


def _environments(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return each machine with its software that computed runs, with their number."""
    found: Counter[str] = Counter()
    for row in rows:
        if row["provenance"]:
            found[json.dumps({name: row["provenance"].get(name) for name in MADE_BY}, sort_keys=True)] += 1
    return [{**json.loads(text), "runs": count} for text, count in sorted(found.items())]


# ---------------------------------------------------------------- data


def _pack_data(records: Sequence[dict[str, Any]]) -> Packed:
    """Pack the manifest of every data set that a recorded sweep read; `facts` is a list of `DataFacts`."""
    packed = Packed({}, [], [])
    for role in ("train", "val"):
        found = {record[role]: Path(record["config"][role]) for record in records if record[role] is not None}
        for number, (content_hash, path) in enumerate(sorted(found.items()), 1):
            name = role if number == 1 else f"{role}-{number}"
            manifest, why = _manifest(path, content_hash)
            beton, file = f"{name}.beton", f"manifests/{name}.json"
            if manifest is None:
                packed.notes.append(f"{name}: no manifest, because {why}")
            else:
                packed.members[file] = manifest_path(path)
            command = f"# {beton}: {why}" if manifest is None else write_command(manifest, beton, file)
            stored = None if manifest is None else file
            packed.facts.append(DataFacts(name=name, content_hash=content_hash, manifest=stored, command=command))
    return packed


def _manifest(path: Path, content_hash: str) -> tuple[Manifest | None, str]:
    """Return the manifest of a data set, or None and the reason why there is none of this content."""
    try:
        manifest = parse_manifest(manifest_path(path))
    except ManifestError:
        return None, f"{manifest_path(path).name} is missing or damaged"
    if manifest.content_hash != content_hash:
        return None, f"{path.name} was changed after the sweep"
    return manifest, ""


def _pack_sweeps(
    records: Sequence[dict[str, Any]], data: Sequence[DataFacts], external: Sequence[ExternalFacts]
) -> Packed:
    """Pack a YAML file for each sweep, whose paths are relative to the bundle; `facts` is a list of `SweepFacts`."""
    packed = Packed({}, [], [])
    names = {(facts.name.partition("-")[0], facts.content_hash): facts.name for facts in data}
    for number, record in enumerate(records, 1):
        file = f"sweeps/{number}.yaml"
        train, val = names["train", record["train"]], names.get(("val", record["val"]))
        own: dict[str, Any] = {
            "train": f"{train}.beton",
            "val": None if val is None else f"{val}.beton",
            "workdir": "run",
        }
        own["methods"] = in_bundle(record["config"]["methods"], external)
        values = {name: own.get(name, record["config"].get(name)) for name in SweepConfig.model_fields}
        packed.members[file] = yaml_text(values).encode("utf-8", "replace")
        packed.facts.append(SweepFacts(file=file, device=record["device"], train=train, val=val))
    return packed


def yaml_text(values: dict[str, Any]) -> str:
    """Return a mapping as YAML, one line per key, whose values are JSON: every reader of YAML reads them alike."""
    known = {name: value for name, value in values.items() if value is not None}
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in known.items())


# ---------------------------------------------------------------- compressed sets


def _pack_subsets(workdir: Path, rows: Sequence[Row], with_subsets: bool) -> Packed:
    """Pack manifest and list of every set that rows were trained on; `facts` holds `SubsetFacts` by name."""
    packed = Packed({}, {}, [])
    for path in sorted({path for row in rows if (path := _subset_of(workdir, row)) is not None}):
        try:
            manifest = parse_manifest(manifest_path(path))
        except ManifestError as error:
            _check_whole(with_subsets, path)
            packed.notes.append(f"subsets/{path.name}: no manifest ({error})")
            continue
        files = (manifest_path(path), list_path(path))
        packed.members.update({f"subsets/{each.name}": each for each in files if each.is_file()})
        method, version = manifest.made.get("method"), manifest.made.get("version")
        known = isinstance(method, str) and isinstance(version, int)
        packed.facts[path.name] = SubsetFacts(
            content_hash=manifest.content_hash, method=method if known else None, version=version if known else None
        )
        if with_subsets:
            _check_whole(with_subsets, path)
            packed.members[f"subsets/{path.name}"] = path
            packed.notes.extend(_changed(workdir, path, rows))
    return packed


def _subset_of(workdir: Path, row: Row) -> Path | None:
    """Return the compressed set of a finished row; None for the training set itself, and for other rows."""
    recorded = row["detail"].get("subset")
    if row["state"] != "done" or row["label"]["ipc"] is None or recorded is None:
        return None
    if row["label"].get("kind") == "beton":  # see `pack_external`
        return None
    made = workdir / "subsets" / Path(recorded).name
    return made if manifest_path(made).exists() else Path(recorded)


def _check_whole(with_subsets: bool, path: Path) -> None:
    if with_subsets and not path.is_file():
        raise StoreError(f"{path}: missing, and rows were trained on it; leave out --with-subsets, or sweep again")


def _changed(workdir: Path, path: Path, rows: Iterable[Row]) -> list[str]:
    """Return a note if the bytes of a set are not those that rows were trained on."""
    sets = [(row["provenance"] or {}).get("subset") or {} for row in rows if _subset_of(workdir, row) == path]
    trained_on = {each["sha256"] for each in sets if "sha256" in each}
    same = trained_on <= {file_key(path, 64)}
    return [] if same else [f"subsets/{path.name}: changed after rows were trained on it"]
