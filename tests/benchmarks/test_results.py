"""Files of a benchmark: summary.json, CSVs, table and figure; and a real quick run."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.results import load_rows, save_rows, table

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KEYS = {"work", "peer", "ours", "theirs", "unit", "ratio", "goal", "met", "n", "spread"}


def row(script: str, work: str, **more: Any) -> dict[str, Any]:
    plain = {"ours": 1234.0, "theirs": 10.0, "unit": "x/s", "ratio": 123.4, "goal": 2, "met": True, "n": 5}
    rest = {"spread": [100.0, 130.0], "limit": "", "most": None, "failed": {"ours": "", "theirs": ""}}
    return {"script": script, "work": work, "peer": "p", **plain, **rest, **more}


def test_a_script_replaces_only_its_own_rows(tmp_path: Path) -> None:
    save_rows(tmp_path, "one", [row("one", "old")], [])
    save_rows(tmp_path, "two", [row("two", "kept")], [])
    save_rows(tmp_path, "one", [row("one", "new")], [{"work": "new", "value": 3}])
    assert [kept["work"] for kept in load_rows(tmp_path)] == ["kept", "new"]
    assert [line["value"] for line in csv.DictReader((tmp_path / "one.csv").open())] == ["3"]


def test_the_table_shows_goals_misses_and_failures() -> None:
    missing = row("s", "w", theirs=None, ratio=None, spread=None, met=None, failed={"ours": "", "theirs": "not there"})
    shown = table([row("s", "w", met=False, limit="a wall", most=9), missing]).splitlines()
    assert shown[2] == "| w | p | 1,234 | 10 | x/s | 123.40 (100.00..130.00) | >= 2x and <= 9 x/s | NO | a wall |"
    assert shown[3] == "| w | p | 1,234 | - | x/s | not there | >= 2x | - | - |"


@pytest.mark.slow
def test_a_quick_run_of_the_kernels(tmp_path: Path) -> None:
    """Run the real script with tiny sizes: every contender runs, passes its check, and all files are written."""
    out, data = tmp_path / "out", tmp_path / "data"
    command = [sys.executable, str(BENCHMARKS / "kernels.py"), "--quick", "--out", str(out), "--data", str(data)]
    done = subprocess.run([*command, "--only", "from a raw"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((out / "summary.json").read_text())
    assert [made["peer"] for made in rows] == ["RDED's steps (Pillow and torch)", "Pillow alone"]
    for made in rows:
        assert made.keys() >= KEYS
        assert made["failed"] == {"ours": "", "theirs": ""}
        assert made["n"] == 2
        assert made["ratio"] == pytest.approx(made["ours"] / made["theirs"], rel=0.01)
        assert made["facts"]["ours"]["levels_from_pillow"] <= 1
        assert made["facts"]["ours"]["mosaics_compared"] == 30
    assert "| 2x2 mosaics from a raw-224 beton | Pillow alone |" in done.stdout
    assert len(list(csv.DictReader((out / "kernels.csv").open()))) == 6  # three contenders, two repetitions
