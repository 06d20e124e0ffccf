"""Check a bundle against this machine, run its rows again, and report row by row what differs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from fastdc.beton.manifest import describe_beton
from fastdc.common.errors import BundleError, ConfigError, FastDCError
from fastdc.common.files import check_file, prepare_workdir
from fastdc.common.log import format_seconds, log_message
from fastdc.common.machine import cpu_name, guess_device
from fastdc.common.text import plain
from fastdc.subsets.external_names import external_names, is_external, parse_external
from fastdc.sweep.bundle.external_files import place_external
from fastdc.sweep.bundle.read_bundle import Bundle
from fastdc.sweep.bundle.same_machine import machine_changes, method_change
from fastdc.sweep.bundle.train_again import Again, choose_rows, differences, name_of, new_folder, train_again
from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Cell
from fastdc.sweep.provenance import versions
from fastdc.sweep.store.row_lines import Row
from fastdc.sweep.sweep_config import SweepConfig, load_config

NO_CELL = "no sweep of the bundle gives this run today"
Data = dict[str, Path]
"""Paths of the data sets by their content hash, and of given files of external sets by their content."""


class Outcome(NamedTuple):
    """End of one row: the line to print, and whether its digits are the same."""

    line: str
    same: bool


class Match(NamedTuple):
    """Cell of the present plan that corresponds to a row; its key differs if what it depends on has changed."""

    sweep: int
    cell: Cell


# ---------------------------------------------------------------- checks


def describe(bundle: Bundle) -> list[str]:
    """Return what a bundle holds and how this machine differs from those that computed it, one line each."""
    index = bundle.index
    counts = ", ".join(f"{count} {state}" for state, count in index.rows.items())
    left_out = "".join(f", {count} {state} left out" for state, count in index.left_out.items())
    lines = [f"{bundle.path}: whole, {len(index.files)} files by fastdc {index.written_by}; runs: {counts}{left_out}"]
    lines += [f"note: {note}" for note in index.notes]
    device = guess_device()
    here = {**versions(), "device": device, **({"device_name": cpu_name()} if device == "cpu" else {})}
    changes: dict[str, int] = {}
    for row in bundle.rows:
        for text in machine_changes(row["provenance"], here):
            changes[text] = changes.get(text, 0) + 1
    lines += [f"{text} ({count} run{'s' * (count > 1)})" for text, count in changes.items()] or [
        "machine: versions and device as recorded"
    ]
    lines += sorted(filter(None, {method_change(facts) for facts in index.subsets.values()}))
    return [plain(line) for line in lines]


def find_data(bundle: Bundle, train: Sequence[Path], val: Sequence[Path]) -> Data:
    """Return the given files by content hash, checked against what the bundle records.

    Raises:
        ConfigError: a file holds other data than the bundle names; the message has the command that writes them.
        BetonError, ManifestError: a file is damaged.
    """
    found: Data = {}
    for role, paths in (("train", train), ("val", val)):
        wanted = {each.content_hash: each for each in bundle.index.data if each.name.partition("-")[0] == role}
        for path in paths:
            check_file(path, f"the beton of --{role}", ConfigError)
            content_hash = describe_beton(path).content_hash
            if content_hash not in wanted:
                expected = " or ".join(f"{each.content_hash} ({_how(each.command)})" for each in wanted.values())
                raise ConfigError(plain(f"--{role} {path}: has content_hash {content_hash}, expected {expected}"))
            found[content_hash] = path
    return found


def missing_data(bundle: Bundle, data: Data) -> list[str]:
    """Return a line for each data set of the bundle that is not given, with the command that writes it."""
    lost = [each for each in bundle.index.data if each.content_hash not in data]
    return [
        plain(f"--{each.name.partition('-')[0]} is missing: {each.name}.beton with content_hash {each.content_hash} "
              f"({_how(each.command)})")
        for each in lost
    ]  # fmt: skip


def readiness(bundle: Bundle, data: Data, lost: int) -> tuple[list[str], bool]:
    """Return lines on what lacks here, and whether all that runs need is here and as recorded.

    Args:
        lost: number of lost files, from `check_external`.
    """
    missing = missing_data(bundle, data)
    problems = [f"{len(missing)} of {len(bundle.index.data)} data sets not given, so not checked"] if missing else []
    problems += [f"{lost} of {len(bundle.index.external)} files of external sets missing or changed"] if lost else []
    summary = f"not ready: {'; '.join(problems)}" if problems else "ready: all data and files of external sets are here"
    return [*missing, summary], not problems


def _how(command: str) -> str:
    return command.removeprefix("# ") if command.startswith("#") else f"write it: {command}"


# ---------------------------------------------------------------- second training


def choose_finished(bundle: Bundle, count: int | None, seed: int) -> list[Row]:
    """Return the finished rows to train again; None takes all.

    Raises:
        ConfigError: there are fewer.
    """
    done = [row for row in bundle.rows if row.get("state") == "done"]
    if not done or not 1 <= (count or 1) <= len(done):
        raise ConfigError(f"--rows {count or 'all'}: expected 1 to {len(done)}, the finished rows of {bundle.path}")
    return done if count is None else choose_rows(done, count, seed)


def _recorded_time(rows: Iterable[Row]) -> str:
    """Return a line on the time that rows took when they were recorded, without observers and compressed sets."""
    spent = [float((row["provenance"] or {}).get("seconds") or 0.0) for row in rows]
    took = f", which took {format_seconds(sum(spent))} when recorded" if sum(spent) else ""
    return f"{len(spent)} run{'s' * (len(spent) > 1)} to train again{took}"


def train_rows(
    bundle: Bundle, rows: Sequence[Row], data: Data, workdir: Path | None, show_progress: bool = False
) -> Iterator[Outcome]:
    """Train rows again in a new folder, observers and compressed sets included; yield the outcome of each.

    Raises:
        ConfigError: data are missing, or `workdir` is not empty.
        BundleError: a sweep of the bundle is none.
    """
    if lost := missing_data(bundle, data):
        raise ConfigError(lost[0])
    with new_folder(workdir) as folder:
        if show_progress:
            log_message(_recorded_time(rows))
        prepare_workdir(folder)
        refused: dict[str, str] = {}
        placed = [_placed(bundle, each, folder, data, refused) for each in _sweeps(bundle, data, folder)]
        sweeps = [sweep for each in placed if (sweep := _usable(each, refused)) is not None]
        matches = _match(rows, sweeps)
        for number, sweep in enumerate(sweeps):
            own = {key: match.cell for key, match in matches.items() if match.sweep == number}
            if own:
                made = train_again(sweep, {cell.key for cell in own.values()}, show_progress)
                for row in (row for row in rows if row["key"] in own):
                    yield _outcome(bundle, row, own[row["key"]], made)
        for row in (row for row in rows if row["key"] not in matches):
            reason = _reason(bundle, row, refused)
            yield Outcome(plain(f"{name_of(row)}: NOT MADE: {NO_CELL}{f'; {reason}' if reason else ''}"), False)


def _sweeps(bundle: Bundle, data: Data, folder: Path) -> Iterator[SweepConfig]:
    """Yield the sweeps of a bundle, on these data and in this folder."""
    hashes = {each.name: each.content_hash for each in bundle.index.data}
    here = guess_device()
    for facts in bundle.index.sweeps:
        names = [facts.train, *([] if facts.val is None else [facts.val])]
        if unknown := [name for name in names if name not in hashes]:
            raise BundleError(f"{bundle.path}: {facts.file}: no data set '{plain(unknown[0])}'; get the bundle again")
        paths = {"train": data[hashes[facts.train]], "workdir": folder}
        paths |= {} if facts.val is None else {"val": data[hashes[facts.val]]}
        config = _parse(bundle, facts.file, paths)
        if facts.device != here:  # an observer on the other device cannot be trained here
            observer = {name: value for name, value in config.observer.items() if name != "device"}
            config = config.model_copy(update={"observer": observer})
        yield config


def _parse(bundle: Bundle, file: str, paths: dict[str, Any]) -> SweepConfig:
    with TemporaryDirectory(prefix="fastdc-bundle-") as folder:
        path = Path(folder) / Path(file).name
        path.write_bytes(bundle.yaml[file])
        try:
            return load_config(path, paths)
        except FastDCError as error:
            text = str(error).replace(str(path), file)
            raise BundleError(f"{bundle.path}: {text}") from error


def _placed(bundle: Bundle, sweep: SweepConfig, folder: Path, data: Data, refused: dict[str, str]) -> SweepConfig:
    """Return a sweep with the files of its external sets where they are, without those that lack; append why."""
    methods, lost = place_external(bundle, sweep.methods, folder, data)
    refused |= lost
    return _with_methods(sweep, methods)


def _usable(sweep: SweepConfig, refused: dict[str, str]) -> SweepConfig | None:
    """Return a sweep without the methods that cannot be planned here, and append why; None if none is left."""
    if not sweep.methods:
        return None
    if _why_not(sweep) is None:
        return sweep
    alone = {method: _why_not(_with_methods(sweep, (method,))) for method in sweep.methods}
    usable = tuple(method for method, problem in alone.items() if problem is None)
    refused |= {_base(method): problem for method, problem in alone.items() if problem is not None}
    return _with_methods(sweep, usable) if usable else None


def _with_methods(sweep: SweepConfig, methods: tuple[str, ...]) -> SweepConfig:
    """Return a sweep of these methods; settings of external sets that are left out go too."""
    gone = set(external_names(sweep.methods)) - set(external_names(methods))
    settings = {name: value for name, value in sweep.set.items() if name not in gone}
    return sweep.model_copy(update={"methods": methods, "set": settings})


def _base(method: str) -> str:
    """Return what an item of `methods` is called without its settings and file."""
    return parse_external(method).name if is_external(method) else method.partition("[")[0]


def _reason(bundle: Bundle, row: Row, refused: dict[str, str]) -> str | None:
    """Return why a row's method was refused, or why one was that no row names, such as `all`."""
    names = {_base_of(each) for each in bundle.rows}
    return refused.get(_base_of(row)) or next((why for name, why in refused.items() if name not in names), None)


def _base_of(row: Row) -> str:
    return str(row["label"]["method"]).partition("[")[0]


def _why_not(sweep: SweepConfig) -> str | None:
    try:
        make_plan(sweep)
    except FastDCError as error:
        return str(error)
    return None


def _match(rows: Iterable[Row], sweeps: Sequence[SweepConfig]) -> dict[str, Match]:
    """Return the cell for each row's key: one of the same key, else one that the same values name."""
    by_key: dict[str, Match] = {}
    by_axes: dict[tuple[str, str | None], Match] = {}
    for number, sweep in enumerate(sweeps):
        for cell in make_plan(sweep).runnable:
            match = Match(number, cell)
            by_key.setdefault(cell.key, match)
            by_axes.setdefault((cell.axes, cell.label.get("observer")), match)
    pairs = ((row, by_key.get(row["key"]) or by_axes.get(_axes(row))) for row in rows)
    return {row["key"]: match for row, match in pairs if match is not None}


def _axes(row: Row) -> tuple[str, str | None]:
    return row["axes"], row["label"].get("observer")


# ---------------------------------------------------------------- comparison


def _outcome(bundle: Bundle, row: Row, cell: Cell, made: dict[str, Again]) -> Outcome:
    name, again = name_of(row), made.get(cell.key, Again(None, "its device differs from the one that was expected"))
    if again.row is None:
        return Outcome(plain(f"{name}: NOT MADE: {again.reason}"), False)
    faults, changes = differences(row, again.row), _changes(bundle, row, again.row)
    if not faults:
        return Outcome(plain(f"{name}: same digits{_note('although', changes)}"), True)
    text = f"{name}: DIFFERS: {'; '.join(faults)}{_note('with', changes)}"
    return Outcome(plain(text if changes else f"{text} (same versions, machine and threads as recorded)"), False)


def _note(word: str, changes: Sequence[str]) -> str:
    return f" ({word} {', '.join(changes)})" if changes else ""


def _changes(bundle: Bundle, row: Row, again: Row) -> list[str]:
    """Return what may explain a difference: the method, the compressed set, the data's key, machine and software."""
    sets = [(each["provenance"] or {}).get("subset") or {} for each in (row, again)]
    method = method_change(bundle.index.subsets.get(str(sets[0].get("file"))))
    changes = [] if method is None else [method]
    if sets[0].get("sha256") != sets[1].get("sha256") and sets[0]:
        changes.append("another compressed set")
    changes += machine_changes(row["provenance"], again["provenance"] or {})
    return changes or (["another content key"] if row["key"] != again["key"] else [])
