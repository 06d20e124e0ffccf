"""Accuracy against epochs beside the table; the last epoch is ranked, the best one never."""

import json
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from fastdc.cli import main as cli
from fastdc.report.epochs import COLUMNS
from fastdc.report.read_results import open_results
from tests.report.test_report_page import label, summary


def write_rows(folder: Path, epochs: int, every: int, **changes: Any) -> None:
    """Write two methods; accuracy rises by 20 from 30 + 10 x seed (pca: 2 more), and the best is 2 above the last."""
    rows = []
    for method, more in (("random", 0.0), ("pca", 2.0)):
        for seed in range(3):
            start = 30.0 + 10 * seed + more
            top1 = [start + 20 * (k + 1) / epochs if (k + 1) % every == 0 else None for k in range(epochs)]
            curve = [{"epoch": k, "loss": 1.0, "top1": value} for k, value in enumerate(top1)]
            values = summary(start + 20, top1_best=start + 22, epochs=epochs)
            rows.append({"key": f"{method}{seed}", "label": label(method, seed, **changes), "detail": {"curve": curve},
                         "summary": values})  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_table_separates_last_and_best_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, 20, 5)
    assert cli.run(["report", str(tmp_path)]) == 0
    plain = capsys.readouterr().out
    assert cli.run(["report", str(tmp_path), "--epochs"]) == 0
    both = capsys.readouterr().out
    assert both.startswith(plain)
    lines = both.removeprefix(plain).strip().splitlines()
    assert lines[1].split() == ["method", "IPC", "n", "5", "10", "15", "last", "best"]
    assert lines[3].split() == ["pca", "10", "3", "47.00", "52.00", "57.00", "62.00", "64.00"]
    assert lines[4].split() == ["random", "10", "3", "45.00", "50.00", "55.00", "60.00", "62.00"]
    assert "never ranked" in lines[5]


def test_many_epochs_are_thinned_evenly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, 100, 1)
    assert cli.run(["report", str(tmp_path), "--epochs"]) == 0
    heading = next(line.split() for line in capsys.readouterr().out.splitlines() if line.endswith("best"))
    assert heading[3:-2] == ["1", "15", "29", "43", "57", "71", "85", "99"]
    assert len(heading[3:-2]) == COLUMNS


def test_json_has_every_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, 20, 5)
    assert cli.run(["report", str(tmp_path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert cli.run(["report", str(tmp_path), "--format", "json", "--epochs"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert [{**row, "top1_by_epoch": None} for row in rows] == [{**row, "top1_by_epoch": None} for row in more]
    assert [each["epoch"] for each in more[0]["top1_by_epoch"]] == [5, 10, 15, 20]
    assert more[0]["top1_by_epoch"][-1] == {"epoch": 20, "mean": 62.0, "std": stdev([52.0, 62.0, 72.0]), "n": 3}
    assert (more[0]["top1_mean"], more[0]["top1_best_mean"]) == (62.0, 64.0)
    assert cli.run(["report", str(tmp_path), "--format", "csv", "--epochs"]) == 2
    assert "--epochs: --format csv cannot show it; use table or json" in capsys.readouterr().err


def test_the_page_draws_accuracy_against_epochs(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", 20, 5)
    page = tmp_path / "page.html"
    assert cli.run(["report", str(tmp_path / "rows"), "--html", str(page)]) == 0
    text = page.read_text()
    chart = text[text.index("Validation accuracy during training, mean over runs") :]
    assert 'aria-label="top-1, % against epoch"' in chart
    assert "pca: 62 at the end; 64 in the best epoch of each run, which is never ranked" in chart
    assert chart.count("<polyline") == 2
    assert chart[chart.index("<polyline") :].split('"')[3].count(",") == 4  # a point for every validation


def test_damaged_validations_name_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, 20, 5)
    text = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(text.replace('"epoch": 4', '"epoch": "x"', 1))
    assert cli.run(["report", str(tmp_path), "--epochs"]) == 2
    assert "run random0: what the store holds of it or of runs like it is damaged" in capsys.readouterr().err


def test_a_store_without_runs_has_no_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with open_results(tmp_path) as results:
        assert results.records() == []
    assert cli.run(["report", str(tmp_path), "--epochs"]) == 0
    assert "no results yet" in capsys.readouterr().out
