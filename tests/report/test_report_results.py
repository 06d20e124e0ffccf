"""Committed rows replace the store that they were written from."""

import json
from pathlib import Path

import pytest

from fastdc.cli import main as cli
from fastdc.common.errors import StoreError
from fastdc.report.read_results import open_results
from fastdc.report.rows import make_rows
from tests.report.test_report_compare import compare_methods, runs, store_of


def write_rows(folder: Path) -> None:
    rows = [{"key": each.key, "axes": "a", "label": each.label, "summary": each.summary,
             "detail": {"curve": [{"epoch": 0, "loss": 1.0, "top1": 3.0}]},
             "provenance": {"started": "2026-11-30T00:00:00Z"}} for each in runs()]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_report_reads_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, store = tmp_path / "rows", tmp_path / "store"
    rows.mkdir()
    store.mkdir()
    write_rows(rows)
    store_of(store, runs())
    for command in (["compare", "{}", "pca", "random"], ["rank", "{}"], ["report", "{}", "--format", "csv"]):
        outputs = []
        for folder in (rows, store):
            assert cli.run([each.format(folder) for each in command]) == 0
            outputs.append(capsys.readouterr().out)
        assert cli.run([each.format(rows / "rows.jsonl") for each in command]) == 0
        assert {*outputs, capsys.readouterr().out} == {outputs[0]}
        assert "pca" in outputs[0]
    assert cli.run(["report", str(rows), "--html", str(tmp_path / "page.html")]) == 0
    assert "pca" in (tmp_path / "page.html").read_text()
    assert sorted(path.name for path in rows.iterdir()) == ["rows.jsonl"]


def test_the_newest_of_two_versions_has_the_plain_name(tmp_path: Path) -> None:
    lines = [{"key": f"{group}{seed}", "label": {**each.label, "group": group}, "summary": each.summary,
              "provenance": {"started": f"2026-11-{day}T00:00:00Z"}}
             for seed, each in enumerate(runs(2)[:2]) for group, day in (("old", 28), ("new", 29))]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_results(tmp_path) as results:
        assert sorted(row.method for row in make_rows(results.records())) == ["random", "random#old"]


HEAD = "dataset,method,ipc,protocol,augment,arch,precision,image_size,threads,seed,top1,top1_best,images,image_bytes,"
HEAD += "epochs,steps,train_seconds\n"


def test_short_rows_name_settings(tmp_path: Path) -> None:
    lines = [f'tiny,el2n,10,hard,method,resnet18,fp32,28,1,{seed},{top1},{top1},100,9,300,9,1.5,"{names}",{size}'
             for names, top1, size in (("", 44.0, 100), ("keep=hard", 30.0, 100), ("first_epoch=1,keep=hard", 9.0, ""))
             for seed in (0, 1)]  # fmt: skip
    (tmp_path / "rows.csv").write_text(HEAD.replace("\n", ",settings,label_bytes\n") + "\n".join(lines))
    with open_results(tmp_path) as results:
        rows = {row.method: row for row in make_rows(results.records())}
    assert {name: row.top1_mean for name, row in rows.items()} == {
        "el2n": 44.0, "el2n[keep=hard]": 30.0, "el2n[first_epoch=1,keep=hard]": 9.0}  # fmt: skip
    assert [row.label_bytes for row in rows.values()] == [100, 100, 0]


def test_short_rows_pair_by_setting(tmp_path: Path) -> None:
    methods = (("pca", 10, 44.0), ("random", 10, 42.0), ("full", "", 80.0))
    lines = [f"tiny,{name},{ipc},hard,method,resnet18,fp32,28,1,{seed},{top1},{top1},100,9,300,9,1.5"
             for name, ipc, top1 in methods for seed in (0, 1)]  # fmt: skip
    (tmp_path / "rows.csv").write_text(HEAD + "\n".join(lines))
    with open_results(tmp_path) as results:
        records = results.records()
    assert compare_methods(records, "pca", "random")[0].result.mean == 2.0
    assert compare_methods(records, "full", "random")[0].result.mean == 38.0
    (tmp_path / "rows.csv").write_text(HEAD + "\n".join([*lines, lines[0]]))
    with (
        pytest.raises(
            StoreError, match=r"rows.csv:8: a second row of pca, seed 0, in one setting; rows.jsonl separates"
        ),
        open_results(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("rows.jsonl", "{}\n", r"rows.jsonl:1: is not a row of a study \(KeyError: 'key'\); export it again"),
     ("rows.jsonl", '{"key": "a", "label": {}, "summary": {}}\n{"key"\n', r"rows.jsonl:2: is not a row of a study"),
     ("rows.jsonl", "[]\n", r"rows.jsonl:1: is not a row of a study"),
     ("rows.csv", "method,seed\npca,0\n", r"rows.csv:2: is not a row of a study \(KeyError: 'dataset'\)"),
     ("rows.csv", HEAD + "d,pca,ten,hard,m,r,fp32,28,1,0,1,1,1,1,1,1,1\n", r"rows.csv:2: is not a row of a study")],
)  # fmt: skip
def test_damaged_rows_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=message), open_results(tmp_path):
        pass


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no result store here"), open_results(tmp_path):
        pass
