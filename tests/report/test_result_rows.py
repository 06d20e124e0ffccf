"""Aggregation of runs into rows."""

import math
import statistics
from typing import Any

import pytest

from fastdc.common.errors import StoreError
from fastdc.report.rows import Row, make_rows, shared_observer
from fastdc.sweep.store.results import Record

LABEL = {
    "dataset": "tiny",
    "method": "random",
    "ipc": 10,
    "protocol": "hard",
    "arch": "resnet18",
    "precision": "fp32",
    "augment": "method",
    "image_size": 28,
    "group": "aaaaaaaaaa",
}


def done(seed: int, top1: float, changed: float = 1.0, **label: Any) -> Record:
    summary = {
        "top1": top1,
        "top1_best": top1 + 1,
        "top5": None,
        "epochs": 300,
        "steps": 3000,
        "images": 100,
        "image_bytes": 1000 + seed,
        "label_bytes": 100,
        "train_seconds": 2.0 + seed,
        "cost": {"observer": 10.0, "scoring": 1.0, "selection": 0.5, "writing": 0.25},
    }
    return Record(f"k{seed}{label}", {**LABEL, "seed": seed, **label}, "done", None, summary, changed)


def other(seed: int, state: str, reason: str | None = None, **label: Any) -> Record:
    return Record(f"k{seed}{state}{label}", {**LABEL, "seed": seed, **label}, state, reason, None, 1.0)


def test_mean_and_spread_over_seeds() -> None:
    (row,) = make_rows([done(0, 40.0), done(1, 44.0), done(2, 45.0)])
    assert (row.n, row.seeds, row.status, row.reason) == (3, 3, "done", None)
    assert row.top1_mean == pytest.approx(43.0)
    assert row.top1_std == pytest.approx(statistics.stdev([40.0, 44.0, 45.0]))
    assert (row.top1_best_mean, row.top5_mean) == (44.0, None)
    assert (row.image_bytes, row.label_bytes, row.images, row.steps, row.epochs) == (1001, 100, 100, 3000, 300)
    assert (row.compress_seconds, row.observer_seconds, row.train_seconds) == (11.75, 10.0, 3.0)


def test_the_machines_of_a_mean() -> None:
    records = [done(seed, 40.0) for seed in range(4)]
    environments = [{"device": "cpu", "machine": "EPYC"}, {"device": "NVIDIA A100"}, {"device": "cpu"}, {}]
    for record, values in zip(records, environments, strict=True):
        assert record.summary is not None
        record.summary.update(values)
    (row,) = make_rows(records)
    assert row.machines == ("EPYC", "NVIDIA A100")  # the others are from an older fastdc, which recorded no CPU
    (row,) = make_rows([done(0, 40.0)])
    assert row.machines == ()


def test_the_ledger_of_a_shared_observer() -> None:
    def row(method: str, observer: float, **changes: Any) -> Row:
        (made,) = make_rows([done(0, 40.0, method=method)])
        return made.model_copy(update={"observer_seconds": observer, **changes})

    rows = [row("random", 0.0), row("el2n", 10.0), row("el2n[keep=hard]", 10.0), row("el2n", 10.0, ipc=50)]
    assert shared_observer(rows) is None  # a single method, with any settings, shares no observer
    assert shared_observer([*rows, row("aum", 60.0), row("ccs[beta=0.1]", 60.0)]) == (3, 60.0, 130.0)
    (made,) = make_rows([done(0, 40.0)])
    assert (made.scoring_seconds, made.selection_seconds) == (1.0, 0.5)


@pytest.mark.parametrize(
    "changes",
    [{"top1": "40"[:0]}, {"top1": 140.0}, {"top1": math.nan}, {"image_bytes": -1}, {"cost": None}, {"labels": "x"}],
)
def test_a_damaged_result_is_one_line_that_names_the_run(changes: dict[str, Any]) -> None:
    record = done(0, 40.0)
    assert record.summary is not None
    record.summary.update(changes)
    with pytest.raises(StoreError, match=r"^run k0\S*: what the store holds of it .* is damaged"):
        make_rows([record])
    with pytest.raises(StoreError, match="is damaged"):
        make_rows([Record("k", {"seed": 0}, "pending", None, None, 1.0)])


def test_one_run_has_no_spread() -> None:
    (row,) = make_rows([done(0, 40.0)])
    assert (row.n, row.top1_mean, row.top1_std) == (1, 40.0, None)


@pytest.mark.parametrize("state", ["failed", "diverged", "pending", "running", "interrupted"])
def test_a_mean_over_part_of_the_seeds_is_marked(state: str) -> None:
    (row,) = make_rows([done(0, 40.0), done(1, 42.0), other(2, state, "loss is nan")])
    assert (row.n, row.seeds, row.status, row.top1_mean) == (2, 3, "partial", 41.0)
    assert row.reason == f"seed 2 {state}: loss is nan"


def test_rows_without_a_result_have_a_reason() -> None:
    rows = make_rows(
        [
            other(0, "failed", "disk", group="f"),
            other(1, "failed", "disk", group="f"),
            other(0, "diverged", "nan", group="d", method="pca"),
            other(0, "skipped", "needs a teacher", group="s", method="soft"),
            other(0, "pending", group="p", method="later"),
        ]
    )
    assert {row.method: (row.n, row.status, row.reason) for row in rows} == {
        "random": (0, "failed", "seeds 0, 1 failed: disk"),
        "pca": (0, "diverged", "seed 0 diverged: nan"),
        "soft": (0, "skipped", "skipped: needs a teacher"),
        "later": (0, "pending", "seed 0 pending"),
    }
    assert {row.top1_mean for row in rows} == {None}


def test_different_runs_are_never_averaged() -> None:
    old, new = done(0, 10.0, changed=1.0, group="old123456"), done(0, 50.0, changed=2.0, group="new123456")
    rows = make_rows([old, new])
    assert {row.method: row.top1_mean for row in rows} == {"random": 50.0, "random#old123": 10.0}


def test_order_is_setup_then_ipc_then_accuracy_with_the_whole_set_last() -> None:
    rows = make_rows(
        [
            done(0, 90.0, group="1", method="full", ipc=None),
            done(0, 20.0, group="2", method="random", ipc=50),
            done(0, 10.0, group="3", method="random", ipc=10),
            done(0, 30.0, group="4", method="pca", ipc=10),
            other(0, "failed", "x", group="5", method="el2n", ipc=10),
            done(0, 99.0, group="6", method="random", ipc=10, protocol="soft"),
        ]
    )
    assert [(row.protocol, row.method, row.ipc) for row in rows] == [
        ("hard", "pca", 10),
        ("hard", "random", 10),
        ("hard", "el2n", 10),
        ("hard", "random", 50),
        ("hard", "full", None),
        ("soft", "random", 10),
    ]


def test_protocols_sort_by_the_numbers_in_their_names() -> None:
    names = ["hard", "hard*epochs=50", "hard*epochs=1000", "hard*lr=0.001", "hard*lr=0.01"]
    rows = make_rows(done(0, 1.0, group=name, protocol=name) for name in reversed(names))
    assert [row.protocol for row in rows] == names


def test_other_threads_or_devices_are_other_rows() -> None:
    rows = make_rows(
        [
            done(0, 40.0, group="1", device="cpu", threads=1),
            done(0, 42.0, group="2", device="cpu", threads=8),
            done(0, 41.0, group="3", device="cuda", threads=None),
        ]
    )
    assert [(row.method, row.device, row.threads) for row in rows] == [
        ("random", "cpu", 1),
        ("random", "cpu", 8),
        ("random", "cuda", None),
    ]


def test_a_row_counts_the_subsets_behind_its_spread() -> None:
    shared = [done(seed, 40.0 + seed, subset="aa") for seed in range(3)]
    drawn = [done(seed, 40.0 + seed, group="d", subset=f"s{seed}") for seed in range(3)]
    waiting = other(3, "pending", group="d", subset="s3")
    by_subsets = {row.subsets: row.n for row in make_rows([*shared, *drawn, waiting])}
    assert by_subsets == {1: 3, 3: 3}


def test_a_row_names_the_settings_that_are_inferred() -> None:
    (row,) = make_rows([done(0, 40.0, method="pca", inferred=["grid", "fit"])])
    assert row.inferred == ("grid", "fit")


def test_only_the_requested_runs() -> None:
    first, second = done(0, 40.0), done(1, 60.0)
    (row,) = make_rows([first, second], [first.key])
    assert (row.n, row.seeds, row.top1_mean) == (1, 1, 40.0)
    assert make_rows([]) == []


def test_older_results_have_hard_labels() -> None:
    (row,) = make_rows([done(0, 40.0)])
    assert (row.labels, row.teacher, row.teacher_note, row.reduced) == ("hard", None, "", ())
    assert (row.teacher_seconds, row.relabel_seconds, row.networks_seconds) == (0, 0, 0)


def test_a_row_names_its_teacher_and_counts_its_time() -> None:
    records = [done(seed, 40.0, protocol="soft", reduced=["200 iterations instead of 4000"]) for seed in range(2)]
    for record, relabel in zip(records, (3.0, 5.0), strict=True):
        assert record.summary is not None
        soft = {"labels": "online", "teacher": "tutor", "teacher_note": "seen", "teacher_seconds": 9.0}
        record.summary.update({**soft, "relabel_seconds": relabel, "label_bytes": 6_000_000_000})
        record.summary["cost"]["teacher"] = 100.0
    (row,) = make_rows(records)
    assert (row.labels, row.teacher, row.teacher_note, row.label_bytes) == ("online", "tutor", "seen", 6_000_000_000)
    assert (row.teacher_seconds, row.relabel_seconds, row.networks_seconds) == (9.0, 4.0, 100.0)
    assert row.compress_seconds == 111.75
    assert row.reduced == ("200 iterations instead of 4000",)


def test_a_row_without_results_takes_its_labels_from_its_protocol() -> None:
    names = ("hard", "soft-small*epochs=3", "soft*labels=stored", "of another version")
    rows = make_rows([other(0, "pending", group=name, protocol=name) for name in names])
    assert {row.protocol: row.labels for row in rows} == dict(
        zip(names, ("hard", "online", "stored", "hard"), strict=True)
    )
