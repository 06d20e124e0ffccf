"""Files of a benchmark: summary.json, CSVs, table and figure; and a real quick run."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.race import Contender, Race
from harness.results import load_rows, save_rows, table
from harness.script import Options, finish, parse_options, run_script

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


def test_a_run_of_some_races_keeps_the_other_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def races(options: Options) -> list[Race]:
        return [Race(work, "x/s", Contender("c", "m:C", {}), ()) for work in ("first", "second")]

    def made(script: str, race: Race, value: int, _: Any) -> list[dict[str, Any]]:
        return [row(script, race.work, n=value, machine="toy", date="now")]

    def chosen(only: str, value: int) -> int:
        monkeypatch.setattr("harness.script.run_race", lambda *_: value)
        monkeypatch.setattr("harness.script.summary_rows", made)
        monkeypatch.setattr("harness.script.csv_rows", lambda _, race, value, __: [{"work": race.work, "value": value}])
        options = parse_options("Run.", ["--out", str(tmp_path), "--only", only])
        return finish(options, run_script("one", options, races) + run_script("none", options, lambda _: []))

    monkeypatch.setattr("harness.script.draw", lambda *_: None)
    assert chosen("", 1) == 0
    assert chosen("SECOND", 2) == 0
    assert [(kept["work"], kept["n"]) for kept in load_rows(tmp_path)] == [("first", 1), ("second", 2)]
    lines = csv.DictReader((tmp_path / "one.csv").open())
    assert [(line["work"], line["value"]) for line in lines] == [("first", "1"), ("second", "2")]
    assert not (tmp_path / "none.csv").exists()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert chosen("third", 3) == 2
    assert "--only 'third': no race has this in its name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


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
