"""The study's runner: rows of a store as text, and a store from these rows."""

import csv
from pathlib import Path
from typing import Any

import pytest
import study

from fastdc.sweep.store import Planned, Store
from tests.report.test_result_rows import done


def fill(path: Path, seeds: range, **label: Any) -> None:
    with Store(path) as store:
        records = [done(seed, 40.0 + seed, **label) for seed in seeds]
        store.register(Planned(record.key, f"axes/{record.key}", record.label) for record in records)
        for record in records:
            lease = store.claim(record.key)
            assert lease is not None
            store.finish(lease, "done", summary=record.summary, detail={"curve": [{"top1": None}, {"top1": 3.0}]})


def export(folder: Path, store: Path) -> int:
    with Store(store) as opened:
        return study.export(folder, opened)


def test_what_a_killed_run_left_is_exported_whatever_runs_next(tmp_path: Path) -> None:
    """A run that goes on begins with the first block; the store holds rows of a later one that no file holds yet."""
    fill(tmp_path / "store.sqlite", range(2))
    assert export(tmp_path, tmp_path / "store.sqlite") == 2
    fill(tmp_path / "store.sqlite", range(3), method="pca", group="b" * 10)
    assert export(tmp_path, tmp_path / "store.sqlite") == 5
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["seed"] for row in rows if row["method"] == "pca"] == ["0", "1", "2"]


def test_a_store_restored_from_the_rows_gives_the_same_rows(tmp_path: Path) -> None:
    fill(tmp_path / "store.sqlite", range(3))
    export(tmp_path, tmp_path / "store.sqlite")
    files = [(tmp_path / name).read_bytes() for name in ("rows.jsonl", "rows.csv")]
    with Store(tmp_path / "again.sqlite") as store:
        assert study.restore(tmp_path, store) == 3
        assert study.restore(tmp_path, store) == 0
        assert set(store.states().values()) == {"done"}
        (tmp_path / "rows.jsonl").unlink()
        study.export(tmp_path, store)
    assert [(tmp_path / name).read_bytes() for name in ("rows.jsonl", "rows.csv")] == files


def test_blocks_that_do_not_exist_are_refused() -> None:
    last = len(study.read_blocks(study.STUDY))
    with pytest.raises(SystemExit, match=f"--blocks {last + 1}: expected 1 to {last}"):
        study.run(study.STUDY, {last + 1}, 0.0)
