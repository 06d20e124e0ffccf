"""Aggregate runs into rows: one row per method, IPC and protocol, over its seeds.

Accuracies are read from the store, never computed here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

from fastdc.common.errors import ConfigError, StoreError
from fastdc.common.settings import Settings
from fastdc.common.text import natural, plain
from fastdc.sweep.store.results import Record
from fastdc.train.protocols import Labels, get_protocol

Status = Literal["done", "partial", "failed", "diverged", "skipped", "pending"]
FAULTS: tuple[Status, ...] = ("failed", "diverged", "skipped")
MAKING = tuple(f"{part}_seconds" for part in ("compress", "observer", "networks", "scoring", "selection"))
COST_OF_SUBSET = ("observer", "teacher", "scoring", "selection", "writing")


class Row(Settings):
    """Line of the result table.

    Attributes:
        dataset, method, ipc, protocol, arch, precision, augment, image_size: settings of the runs; `ipc` is None if
            the whole training set was used.
        device, threads: device type and CPU threads; `threads` is None on a GPU, where it changes no result.
        holdout: share of the training set that was held out for validation; None if the validation set was used.
        machines: models of the GPUs or CPUs that computed the finished runs. Runs of older versions name only a GPU,
            so this may be empty.
        labels: training labels: `hard`, or a teacher's `online` or `stored` labels.
        teacher: network that gave soft labels; teacher_note: a remark on it.
        observer: how the observer that the method reads was trained; None for methods that read none.
        reduced: what makes the method's run smaller than its paper's, for example "200 iterations instead of 4000".
        inferred: settings of the method that no paper states and that have our default.
        n: finished runs; `seeds`: requested runs. A mean is over `n` runs, so `n < seeds` must be shown with it.
        subsets: distinct stored sets that the `n` runs trained on. With 1, the spread is that of training alone.
        top1_mean, top1_std: last epoch's accuracy in percent over seeds; std with ddof=1, None for n = 1.
        top5_mean: None below 6 classes. top1_best_mean: best epoch's accuracy; never ranked.
        images, image_bytes: size of one stored set, mean over runs.
        label_bytes: bytes of its labels. `online` labels are not stored; for them it is the size of fp16 logits of
            every image in every epoch.
        epochs, steps: training length.
        compress_seconds: time to make one subset from the data: networks, scores, selection (for a distillation, the
            making of the images) and writing. Its parts are observer_seconds, networks_seconds, scoring_seconds and
            selection_seconds. observer_seconds covers what this method reads, as if the observer were trained for it
            alone; in fact all methods share one observer. networks_seconds is the training of the networks it runs.
        teacher_seconds: training of the network that gave soft labels; 0 for a pretrained one.
        relabel_seconds: its forward passes. For `online` labels they run during training, for `stored` ones once
            before it.
        train_seconds: time to train and validate one network, mean over runs.
        status: `done` if all runs finished; `partial` if some did; else the state of the others.
        reason: why runs are missing; None when `done`.
        external: kind and file of an external set, `list kept.npy`; None for a method. What it took to choose or make
            its images is unknown, so its compress_seconds and their parts are None.
        per_class: fewest and most images of a class of an external set, `3-6`, if they differ. `ipc` is then the mean,
            rounded.
    """

    dataset: str
    method: str
    ipc: int | None
    protocol: str
    arch: str
    precision: str
    augment: str
    image_size: int
    device: str | None = None
    threads: int | None = None
    holdout: float | None = None
    machines: tuple[str, ...] = ()
    labels: Labels = "hard"
    teacher: str | None = None
    teacher_note: str = ""
    observer: str | None = None
    inferred: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()
    n: int
    seeds: int
    subsets: int
    top1_mean: float | None = None
    top1_std: float | None = None
    top5_mean: float | None = None
    top1_best_mean: float | None = None
    images: int | None = None
    epochs: int | None = None
    steps: int | None = None
    image_bytes: int | None = None
    label_bytes: int | None = None
    compress_seconds: float | None = None
    observer_seconds: float | None = None
    networks_seconds: float | None = None
    scoring_seconds: float | None = None
    selection_seconds: float | None = None
    teacher_seconds: float | None = None
    relabel_seconds: float | None = None
    train_seconds: float | None = None
    status: Status
    reason: str | None = None
    external: str | None = None
    per_class: str | None = None

    @property
    def shown(self) -> str:
        """Return the method's name as tables show it; that of an external set is marked."""
        return self.method if self.external is None else f"{self.method} (external)"


AXES = (
    *("dataset", "method", "ipc", "protocol", "arch", "precision", "augment", "image_size", "device", "threads"),
    "holdout",
)


def make_rows(records: Iterable[Record], keys: Iterable[str] | None = None) -> list[Row]:
    """Return the rows of a store, grouped by everything that a result depends on except the seeds.

    Runs of other data, another method version or another observer form their own rows even if the visible axes are
    equal. The older rows get a mark (`random#3f2a91`). Runs that are not comparable are thus never averaged.

    Args:
        records: from `Store.records`.
        keys: only these runs; None takes all.

    Returns:
        Rows by data set, protocol, arch, precision, augment, image size, machine and IPC (whole set last), best
        accuracy first.
    """
    wanted = None if keys is None else set(keys)
    return [row for row, _ in group_rows(record for record in records if wanted is None or record.key in wanted)]


def group_rows(records: Iterable[Record]) -> list[tuple[Row, list[Record]]]:
    """Return the rows of `make_rows`, each with the runs that it summarises.

    Raises:
        StoreError: a run's label or result is not what a sweep writes.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        with damage_named(record.key):
            groups.setdefault(str(record.label["group"]), []).append(record)
    shown: dict[tuple[Any, ...], str] = {}
    rows = []
    # Newest first: the most recently changed group keeps the plain name.
    for group in sorted(groups, key=lambda name: -max(record.changed for record in groups[name])):
        with damage_named(groups[group][0].key):
            # Sort by seed, because the order of the records depends on when runs finished.
            groups[group].sort(key=lambda record: (int(record.label["seed"]), record.key))
            row = _row(groups[group])
        axes = tuple(getattr(row, axis) for axis in AXES)
        if axes in shown:
            row = row.model_copy(update={"method": f"{row.method}#{group[:6]}"})
        shown[axes] = group
        rows.append((row, groups[group]))
    return sorted(rows, key=lambda pair: _order(pair[0]))


@contextmanager
def damage_named(key: str) -> Iterator[None]:
    """Convert errors from missing, mistyped or out-of-range stored values into a `StoreError` that names the run."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        text = f"run {plain(str(key))[:60]}: what the store holds of it or of runs like it is damaged"
        raise StoreError(f"{text} ({type(error).__name__}); restore a backup of the store, or move it away") from error


class SharedObserver(NamedTuple):
    """Time saved by sharing one observer.

    Attributes:
        methods: number of methods that read it.
        seconds: its training time, up to what the most demanding method reads.
        alone: total time if each method trained its own observer, as separate codes do.
    """

    methods: int
    seconds: float
    alone: float


def shared_observer(rows: Iterable[Row]) -> SharedObserver | None:
    """Return what sharing the observer saved; None if fewer than two methods read it.

    Each method counts once, with its most expensive row, whatever its IPC and settings.
    """
    spent: dict[str, float] = {}
    for row in rows:
        name = re.split(r"[\[#]", row.method)[0]  # without settings and mark
        if row.observer_seconds:
            spent[name] = max(spent.get(name, 0.0), row.observer_seconds)
    return SharedObserver(len(spent), max(spent.values()), sum(spent.values())) if len(spent) > 1 else None


def _order(row: Row) -> tuple[Any, ...]:
    setup: tuple[Any, ...] = (row.dataset, natural(row.protocol), row.arch, row.precision, row.augment, row.image_size)
    setup += (row.holdout or 0.0, row.device or "", row.threads or 0)
    return (*setup, row.ipc is None, row.ipc or 0, -(row.top1_mean if row.top1_mean is not None else -1.0), row.method)


def _row(records: list[Record]) -> Row:
    label = records[0].label
    done = [record.summary for record in records if record.state == "done" and record.summary is not None]
    states = Counter(record.state for record in records)
    values: dict[str, Any] = {axis: label.get(axis) for axis in AXES}
    values |= {
        "observer": label.get("observer"),
        "machines": _machines(done),
        "inferred": label.get("inferred", ()),
        "reduced": label.get("reduced", ()),
        "external": label.get("external"),
        "per_class": label.get("per_class"),
        "labels": done[0].get("labels", "hard") if done else _labels_of(label["protocol"]),
        "teacher": done[0].get("teacher") if done else None,
        "teacher_note": done[0].get("teacher_note", "") if done else "",
        "n": len(done),
        "seeds": len(records),
    }
    values["subsets"] = len({record.label.get("subset") for record in records if record.state == "done"})
    values |= {"status": _status(states), "reason": _reason(records)}
    numbers = _numbers(done) if done else {}
    if values["external"] is not None:
        numbers |= dict.fromkeys(name for name in MAKING if name in numbers)
    return Row(**values, **numbers)


def _machines(done: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the models of the GPUs or CPUs; runs of older versions name only a GPU, as their device."""
    named = (run.get("machine") or run.get("device") for run in done)
    return tuple(sorted({str(name) for name in named if name and name != "cpu"}))


def _labels_of(protocol: str) -> Labels:
    """Return the labels of a protocol by its name; "hard" if this version does not know it."""
    try:
        return get_protocol(protocol).labels
    except ConfigError:
        return "hard"


def _numbers(done: list[dict[str, Any]]) -> dict[str, Any]:
    top1 = [float(run["top1"]) for run in done]
    if max(top1) > 100.0:
        raise ValueError("top1")  # `damage_named` turns it into an error that names the run
    top5 = [float(run["top5"]) for run in done if run.get("top5") is not None]
    cost = {part: fmean(run["cost"].get(part, 0.0) for run in done) for part in COST_OF_SUBSET}
    numbers = {
        "top1_mean": fmean(top1),
        "top1_std": stdev(top1) if len(top1) > 1 else None,
        "top5_mean": fmean(top5) if len(top5) == len(done) else None,
        "top1_best_mean": fmean(run["top1_best"] for run in done),
        **{name: round(fmean(run[name] for run in done)) for name in ("images", "epochs", "steps")},
        **{name: round(fmean(run[name] for run in done)) for name in ("image_bytes", "label_bytes")},
        "compress_seconds": sum(cost.values()),
        "observer_seconds": cost["observer"],
        "networks_seconds": cost["teacher"],
        "scoring_seconds": cost["scoring"],
        "selection_seconds": cost["selection"],
        "teacher_seconds": fmean(run.get("teacher_seconds", 0.0) for run in done),
        "relabel_seconds": fmean(run.get("relabel_seconds", 0.0) for run in done),
        "train_seconds": fmean(run["train_seconds"] for run in done),
    }
    if any(value is not None and value < 0 for value in [*top1, *numbers.values()]):
        raise ValueError("a number below 0")
    return numbers


def _status(states: Counter[str]) -> Status:
    if states["done"]:
        return "done" if len(states) == 1 else "partial"
    for state in FAULTS:
        if states[state]:
            return state
    return "pending"


def _reason(records: list[Record]) -> str | None:
    """Return why runs are missing, each reason once with its seeds; None if none are."""
    reasons: dict[str, list[int]] = {}
    for record in records:
        if record.state == "skipped":
            reasons.setdefault(f"skipped: {record.reason}", [])
        elif record.state != "done":
            text = record.state + (f": {record.reason}" if record.reason else "")
            reasons.setdefault(text, []).append(record.label["seed"])
    parts = []
    for text, seeds in reasons.items():
        which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))} " if seeds else ""
        parts.append(which + text)
    return "; ".join(parts) or None
