"""The study's runner: rows of a store as text, a store from these rows, and refused input."""

import csv
from pathlib import Path
from typing import Any

import pytest
import study
from studies.blocks import read_blocks, wanted_rows
from studies.results import axes_of
from studies.rows import export, read_rows, restore, rows_csv
from studies.running import run

from fastdc.common.errors import ConfigError, StoreError
from fastdc.report.read_results import open_results
from fastdc.report.rows import make_rows
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
from tests.benchmarks.study_rows import STUDY, row, rows_of, write_study
from tests.report.test_result_rows import done


def fill(path: Path, seeds: range, **label: Any) -> None:
    with Store(path) as store:
        records = [done(seed, 40.0 + seed, **label) for seed in seeds]
        store.register(Planned(record.key, f"axes/{record.key}", record.label) for record in records)
        for record in records:
            lease = store.claim(record.key)
            assert lease is not None
            store.finish(lease, "done", summary=record.summary, detail={"curve": [{"top1": None}, {"top1": 3.0}]})


def export_from(folder: Path, store: Path) -> int:
    with Store(store) as opened:
        return export(folder, opened)


def test_rows_of_a_killed_run_are_exported_by_the_next_one(tmp_path: Path) -> None:
    """A resumed run starts at the first block, while the store holds rows of a later one that are in no file yet."""
    fill(tmp_path / "store.sqlite", range(2))
    assert export_from(tmp_path, tmp_path / "store.sqlite") == 2
    fill(tmp_path / "store.sqlite", range(3), method="pca", group="b" * 10)
    assert export_from(tmp_path, tmp_path / "store.sqlite") == 5
    assert [each["label"]["seed"] for each in read_rows(tmp_path) if each["label"]["method"] == "pca"] == [0, 1, 2]


def test_a_store_restored_from_the_rows_gives_the_same_rows(tmp_path: Path) -> None:
    fill(tmp_path / "store.sqlite", range(3))
    export_from(tmp_path, tmp_path / "store.sqlite")
    rows = (tmp_path / "rows.jsonl").read_bytes()
    with Store(tmp_path / "again.sqlite") as store:
        assert restore(tmp_path, store) == 3
        assert restore(tmp_path, store) == 0
        assert set(store.states().values()) == {"done"}
        (tmp_path / "rows.jsonl").unlink()
        export(tmp_path, store)
    assert (tmp_path / "rows.jsonl").read_bytes() == rows


def test_a_run_that_failed_here_takes_its_committed_result(tmp_path: Path) -> None:
    fill(tmp_path / "store.sqlite", range(2))
    export_from(tmp_path, tmp_path / "store.sqlite")
    with Store(tmp_path / "again.sqlite") as store:
        failed, claimed = read_rows(tmp_path)
        store.register(Planned(each["key"], each["axes"], each["label"]) for each in (failed, claimed))
        lease = store.claim(failed["key"])
        assert lease is not None
        store.finish(lease, "failed", reason="OutputError: disk full")
        assert store.claim(claimed["key"]) is not None  # by another process, which trains it now
        assert restore(tmp_path, store) == 1
        assert store.states()[failed["key"]] == "done"


def test_the_rows_of_the_study_give_its_store(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        assert restore(study.STUDY, store) > 0
    with open_results(study.STUDY) as rows, open_results(tmp_path) as restored:
        found, expected = rows.records(), restored.records()
        assert make_rows(found) == make_rows(expected)
        assert {each.key: rows.detail(each.key) for each in found} == {
            each.key: restored.detail(each.key) for each in expected
        }
    short = tmp_path / "short"
    short.mkdir()
    (short / "rows.csv").write_bytes((study.STUDY / "rows.csv").read_bytes())
    with open_results(short) as rows:
        assert sorted(
            (each.label["method"], each.label["seed"], (each.summary or {})["top1"]) for each in rows.records()
        ) == (sorted((each.label["method"], each.label["seed"], (each.summary or {})["top1"]) for each in found))
    with pytest.raises(StoreError, match=r"rows.csv: holds accuracies alone; this command needs rows.jsonl"):
        open_results(short, whole=True).__enter__()


def test_a_csv_row_shows_in_its_name_what_separates_it() -> None:
    """A filter by method finds a method's usual rows alone; `full` has no ipc."""
    rows = [row("el2n[keep=hard]", 3, 40.0), row("random", 1, 30.0), row("full", 0, 80.0, ipc=None)]
    rows += [row("sre2l[iterations=50]", 4, 20.0), row("pca[grid=3,score=random]", 2, 41.0)]
    rows += [row("pca", 2, 40.0, augment="protocol", precision="bf16"), row("pca[grid=3]", 2, 40.0, image_size=96)]
    usual = {"protocol": "cim-hl", "augment": "method", "image_size": 64, "precision": "fp32"}
    found = list(csv.DictReader(rows_csv(rows, usual).splitlines()))
    assert [(each["method"], each["settings"]) for each in found] == [
        ("el2n[keep=hard]", "keep=hard"),
        ("random", ""),
        ("full", ""),
        ("sre2l", "iterations=50"),  # smaller than its paper's, and the only rows of sre2l
        ("pca[grid=3,score=random]", "grid=3,score=random"),
        ("pca[augment=protocol,precision=bf16]", ""),
        ("pca[grid=3,image_size=96]", "grid=3"),
    ]
    assert [each["ipc"] for each in found] == ["10", "10", "", *["10"] * 4]
    # The teacher of sre2l is the observer.
    assert [each["observer_seed"] for each in found] == ["3", "", "", "4", "", "2", "2"]
    assert (found[0]["top1"], found[0]["top1_best"], found[0]["augment"]) == ("40.0", "41.0", "method")


def test_method_ipc_protocol_network_and_seed_name_each_committed_row() -> None:
    with (study.STUDY / "rows.csv").open() as file:
        names = [
            tuple(each[axis] for axis in ("method", "ipc", "protocol", "arch", "seed")) for each in csv.DictReader(file)
        ]
    assert len(names) == len(set(names))
    assert {"random", "el2n", "pca", "pact", "rded", "sre2l", "dwa", "full"} <= {name[0] for name in names}


def test_planned_rows_have_the_labels_of_finished_rows() -> None:
    """The committed rows are among those that study.yaml plans, by axes and observer."""
    wanted = {(each.axes, each.observer, each.seed) for each in wanted_rows(read_blocks(study.STUDY))}
    rows = read_rows(study.STUDY)
    assert rows
    for each in rows:
        assert (axes_of(each), each["label"]["observer"], each["label"]["seed"]) in wanted


def test_unknown_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--blocks 3: expected 1 to 2"):
        run(write_study(tmp_path), {3}, 0.0)


def test_a_block_may_have_an_observer_of_its_own(tmp_path: Path) -> None:
    blocks = [{**STUDY["blocks"][0], "observer": {"epochs": 60}}]
    block = read_blocks(write_study(tmp_path, study={"blocks": blocks}))[0]
    assert [sweep.observer["seed"] for sweep in block.sweeps] == list(range(10))
    assert {(sweep.observer["epochs"], sweep.observer["arch"]) for sweep in block.sweeps} == {(60, "resnet10")}


def full_study(folder: Path) -> Path:
    rows = [each for method in ("random", "el2n", "pca") for each in rows_of(method, [40.0] * 10)]
    whole = rows_of("full", [80.0, 81.0], ipc=None, protocol="hard-small*epochs=30")
    return write_study(folder, [*rows, *whole])


def test_a_finished_study_trains_nothing_and_needs_no_betons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study.main(["run", "--study", str(full_study(tmp_path))]) == 0
    assert "all 32 rows are in rows.jsonl: nothing to train (absent/train.beton is missing" in capsys.readouterr().out
    assert not (tmp_path / "absent").exists()
    assert (tmp_path / "README.md").exists()


def test_rows_to_train_without_betons_are_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = read_rows(full_study(tmp_path))
    write_study(tmp_path, rows[:-1])
    assert study.main(["run", "--study", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    expected = "absent/train.beton: no such file, and 1 of 32 rows are to be trained (the first: block 2, full, seed 1)"
    assert expected in error
    assert error.count("\n") == 1
    assert study.main(["run", "--study", str(tmp_path), "--blocks", "1"]) == 0


BLOCK = {"name": "x", "methods": ["random"], "ipc": [10], "seeds": "0"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": [BLOCK, {**BLOCK, "ipc": [0]}]}, "block 2 (x): ipc=[0]: expected at least 1 image per class"),
        ({"blocks": [{**BLOCK, "seeds": "3-1"}]}, "block 1 (x): seeds: range '3-1': expected first-last"),
        ({"blocks": [{**BLOCK, "seed": 3}]}, "block 1 (x): unknown key 'seed'; did you mean 'seeds'?"),
        ({"blocks": [{**BLOCK, "methods": ["pcaa"]}]}, "block 1 (x): unknown method 'pcaa'"),
        ({"blocks": [{**BLOCK, "protocols": ["hardd"]}]}, "block 1 (x): unknown protocol 'hardd'"),
        ({"blocks": [{**BLOCK, "observer": 3}]}, "block 1 (x): observer=3: expected a mapping"),
        ({"blocks": [{"name": "x"}]}, "block 1: expected a mapping with a name, seeds and settings of a sweep"),
        ({"blocks": {}}, "blocks: expected a list"),
        ({"common": []}, "common: expected a mapping"),
        ({"workdir": None}, "workdir=None"),
    ],
)
def test_an_unsound_study_is_one_line_that_names_block_and_field(
    tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main(["run", "--study", str(write_study(tmp_path, study=changes))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("study: ")
    assert "study.yaml" in error
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_study_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("run", "draw", "export"):
        assert study.main([action, "--study", str(tmp_path / "none")]) == 2
        assert "study.yaml: no such file" in capsys.readouterr().err
