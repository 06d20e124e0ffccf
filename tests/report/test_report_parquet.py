"""`fastdc report --format parquet`: every run with the columns of its row, read back with pyarrow."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from fastdc.cli import main as cli
from fastdc.report.rows import Row
from fastdc.report.run_table import RUN_COLUMNS
from fastdc.sweep.store.results import Store
from tests.report.test_report_page import Sweep, label, summary

pq = pytest.importorskip("pyarrow.parquet")

MADE = {"fastdc": "0.2", "seeds": {"training": 1, "subset": 0}, "git": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write three finished runs, one with provenance, and one that failed."""
    made = Sweep(tmp_path / "sweep")
    for seed in range(2):
        made.add("random", seed, 40.0 + seed)
    made.add("random", 2, None, "failed")
    made.add("full", 0, 85.0, ipc=None)
    made.store.close()
    return made.folder


def export(folder: Path, out: Path) -> list[dict[str, object]]:
    assert cli.run(["report", str(folder), "--format", "parquet", "--out", str(out)]) == 0
    rows: list[dict[str, object]] = pq.read_table(out).to_pylist()
    return rows


def test_every_run_is_a_row_with_the_columns_of_json_and_csv(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = export(folder, tmp_path / "runs.parquet")
    found = capsys.readouterr()
    assert (found.out, found.err.count("4 rows, one for each seed")) == ("", 1)
    assert cli.run(["report", str(folder), "--format", "json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert cli.run(["report", str(folder), "--format", "csv"]) == 0
    heading = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert list(runs[0]) == [*heading, *RUN_COLUMNS]
    for run in runs:
        assert {name: run[name] for name in Row.model_fields} == rows[run["method"]]
    short = [(run["method"], run["seed"], run["state"], run["top1"], run["top1_best"]) for run in runs]
    assert short == [
        ("random", 0, "done", 40.0, 41.0),
        ("random", 1, "done", 41.0, 42.0),
        ("random", 2, "failed", None, None),
        ("full", 0, "done", 85.0, 86.0),
    ]
    with Store(folder / "store.sqlite", readonly=True) as store:
        assert {run["key"] for run in runs} == {record.key for record in store.records()}


def test_types_do_not_depend_on_the_values(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "runs.parquet")
    schema = pq.read_schema(tmp_path / "runs.parquet")
    types = {name: str(schema.field(name).type) for name in ("ipc", "top5", "machines", "reason", "holdout", "labels")}
    lists = types.pop("machines")
    assert lists.startswith("list<")
    assert types == {"ipc": "int64", "top5": "double", "reason": "string", "holdout": "double", "labels": "string"}


def test_provenance_of_a_store_and_of_committed_rows(tmp_path: Path) -> None:
    store = Sweep(tmp_path / "sweep").store
    from fastdc.sweep.store.transitions import Planned

    store.register([Planned("k", "k", label("random", 1), None)])
    lease = store.claim("k")
    assert lease is not None
    store.finish(lease, "done", summary=summary(40.0), provenance=MADE)
    store.close()
    row = {"key": "k", "label": label("random", 1), "summary": summary(40.0), "detail": {}, "provenance": MADE}
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "axes": "k"}) + "\n")
    (first,) = export(tmp_path / "sweep", tmp_path / "first.parquet")
    (second,) = export(tmp_path, tmp_path / "second.parquet")
    assert first == second
    assert json.loads(str(first["provenance"])) == MADE


def test_the_same_results_give_the_same_bytes_and_an_export_is_replaced(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs.parquet"
    export(folder, out)
    first = out.read_bytes()
    export(folder, out)
    assert out.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.parquet", "sweep"]


def test_other_files_and_wrong_combinations_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow

    command, parquet = ["report", str(folder)], ["--format", "parquet"]
    text, shard = tmp_path / "text", tmp_path / "shard.parquet"
    text.write_text("PAR1 mine")
    pq.write_table(pyarrow.table({"image": [b"x"]}), shard)
    before = shard.read_bytes()
    for options, message in (
        (parquet, "--format parquet: is binary and not printed; name its file with --out FILE"),
        (["--out", "x.csv", "--format", "csv"], "--out x.csv: --format csv is printed; redirect it with > FILE"),
        ([*parquet, "--epochs", "--out", "x"], "--epochs: --format parquet cannot show it"),
        ([*parquet, "--out", str(text)], "text: exists already and is not an export of fastdc report"),
        ([*parquet, "--out", str(shard)], "shard.parquet: exists already and is not an export of fastdc report"),
        ([*parquet, "--out", str(folder / "store.sqlite")], "store.sqlite: exists already"),
        ([*parquet, "--out", str(tmp_path)], "is a folder"),
        ([*parquet, "--out", "/dev/null"], "is a device or pipe"),
        ([*parquet, "--out", str(tmp_path / "none" / "x")], "does not exist; create it first"),
    ):
        assert cli.run([*command, *options]) == 2, options
        found = capsys.readouterr()
        assert message in found.err
        assert found.err.count("\n") == 1
        assert found.out == ""
    assert (text.read_text(), shard.read_bytes()) == ("PAR1 mine", before)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert cli.run([*command, *parquet, "--out", str(tmp_path / "runs.parquet")]) == 2
    assert "--format parquet needs pyarrow, which is not installed: pip install pyarrow, or in a clone of" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "runs.parquet").exists()


def test_damaged_results_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {**summary(40.0), "top1_best": "high"}
    row = {"key": "k", "label": label("random", 1), "summary": values, "detail": {}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / "runs.parquet"
    assert cli.run(["report", str(tmp_path), "--format", "parquet", "--out", str(out)]) == 2
    assert "run k: what the store holds of it" in capsys.readouterr().err
    assert not out.exists()
