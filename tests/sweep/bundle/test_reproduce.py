"""Rows of a bundle trained again from scratch: equal digits, or a report of the difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastdc.methods.pruning.entropy as entropy
from fastdc.cli import main as cli
from fastdc.sweep.bundle.read_bundle import load_bundle

Change = Callable[[dict[str, bytes]], None]
Changed = Callable[[Change], Path]


def reproduce(bundle: Path, tiny: Path, *options: str) -> int:
    data = ("--train", str(tiny / "train.beton"), "--val", str(tiny / "val.beton"))
    return cli.run(["reproduce", str(bundle), *data, "--quiet", *options])


def edit_rows(edit: Callable[[dict[str, Any]], None]) -> Change:
    def change(members: dict[str, bytes]) -> None:
        rows = [json.loads(line) for line in members["rows.jsonl"].splitlines()]
        for row in rows:
            edit(row)
        members["rows.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()

    return change


def test_every_digit_is_reproduced(
    packed: Path, ran: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Observer and sets are made again: the folder of the first run is absent."""
    ran.rename(ran.with_name("away"))
    try:
        assert reproduce(packed, tiny, "--workdir", str(tmp_path / "again")) == 0
    finally:
        ran.with_name("away").rename(ran)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("runs: 1 diverged, 6 done")
    assert lines[1] == "machine: versions and device as recorded"
    assert [line.rpartition(": ")[2] for line in lines[2:-1]] == ["same digits"] * 6
    assert lines[-1] == "6 of 6 runs have the same digits"
    assert sorted(path.name for path in (tmp_path / "again" / "subsets").glob("*.beton")) == sorted(
        path.name for path in (ran / "subsets").glob("*.beton")
    )
    assert reproduce(packed, tiny, "--workdir", str(tmp_path / "again")) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_changed_digit_is_named_with_possible_reasons(
    changed: Changed, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(row: dict[str, Any]) -> None:
        if row["state"] == "done" and row["label"]["method"] == "random":
            row["summary"]["top1"] += 1e-9
            row["detail"]["curve"][-1]["loss"] = 0.5
            if row["label"]["seed"] == 1:
                row["provenance"]["libraries"]["torch"] = "1.0"
        elif row["label"]["method"] != "random":
            row["state"] = "failed"

    assert reproduce(changed(edit_rows(edit)), tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "torch 1.0, now " in lines[1]
    assert lines[1].endswith("(1 run)")
    zero, one = lines[2:4]
    assert "seed 0: " in zero
    assert "DIFFERS: top1 " in zero
    assert zero.endswith("; curve from epoch 2 (same versions, machine and threads as recorded)")
    assert "; curve from epoch 2 (with torch 1.0, now " in one
    assert lines[-1] == "0 of 2 runs have the same digits"


def test_another_version_of_a_method(
    changed: Changed, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The current method has another key; the run with the same values is compared, and a lost one is reported."""

    def edit(row: dict[str, Any]) -> None:
        if row["label"]["method"] != "entropy":
            row["state"] = "failed"
        elif row["label"]["seed"] == 1:
            row["key"] = row["axes"] = "0" * 32

    bundle = changed(edit_rows(edit))
    method = next(each for each in vars(entropy).values() if getattr(each, "version", None) and hasattr(each, "info"))
    before = method.version
    monkeypatch.setattr(method, "version", before + 1)
    assert reproduce(bundle, tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"method entropy version {before}, now {before + 1}" in lines
    assert "seed 0: " in lines[-3]
    assert f"same digits (although method entropy version {before}, now {before + 1}" in lines[-3]
    assert lines[-2].endswith("NOT MADE: no sweep of the bundle gives this run today")
    assert lines[-1] == "1 of 2 runs have the same digits"


def test_other_data_and_missing_data(
    packed: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["reproduce", str(packed), "--check-only"]) == 1
    out = capsys.readouterr().out
    assert out.endswith("not ready: 2 of 2 data sets not given, so not checked\n")
    assert "--train is missing: train.beton with content_hash " in out
    assert "--val is missing: val.beton with content_hash " in out
    assert cli.run(["reproduce", str(packed), "--train", str(tiny / "train.beton")]) == 2
    assert capsys.readouterr().err.startswith("error: --val is missing: val.beton with content_hash ")
    assert cli.run(["reproduce", str(packed), "--train", str(tiny / "val.beton"), "--check-only"]) == 2
    captured = capsys.readouterr()
    assert f"--train {tiny / 'val.beton'}: has content_hash " in captured.err
    assert "written by a program that its manifest does not name" in captured.err
    assert captured.err.count("\n") == 1
    assert cli.run(["reproduce", str(packed), "--train", str(tmp_path / "none.beton")]) == 2
    assert "none.beton: does not exist, expected the beton of --train" in capsys.readouterr().err
    assert reproduce(packed, tiny, "--check-only") == 0
    out = capsys.readouterr().out
    assert "missing" not in out
    assert out.endswith("ready: all data and files of external sets are here\n")


def test_the_number_of_rows(packed: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, message in (("7", "--rows 7: expected 1 to 6"), ("0", "--rows 0: expected a number"), ("x", "--rows x:")):
        assert reproduce(packed, tiny, "--rows", text) == 2
        assert message in capsys.readouterr().err
    chosen = []
    for seed in ("0", "0", "3"):
        assert reproduce(packed, tiny, "--rows", "1", "--seed", seed) == 0
        chosen.append(capsys.readouterr().out.splitlines()[2])
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_method_that_is_now_refused_keeps_the_others(
    changed: Changed, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(members: dict[str, bytes]) -> None:
        text = members["sweeps/1.yaml"]
        members["sweeps/1.yaml"] = text.replace(b'"entropy"', b'"entropie"')
        members["sweeps/2.yaml"] = members["sweeps/2.yaml"].replace(b'"entropy"', b'"entropie"')
        edit_rows(lambda row: row.update(state="failed") if row["label"]["method"] == "full" else None)(members)

    assert reproduce(changed(change), tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines[2:4]] == ["same digits"] * 2
    for line in lines[4:6]:
        assert "entropy" in line
        assert "NOT MADE: no sweep of the bundle gives this run today; " in line
        assert "did you mean 'entropy'?" in line


def test_an_invalid_sweep(changed: Changed, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(members: dict[str, bytes]) -> None:
        for name in ("sweeps/1.yaml", "sweeps/2.yaml"):
            members[name] = members[name].replace(b"archs", b"arches")

    assert reproduce(changed(change), tiny) == 2
    assert "sweeps/1.yaml:" in (errors := capsys.readouterr().err)
    assert "unknown key 'arches'" in errors
    assert errors.count("\n") == 1


@pytest.mark.timeout(240)
def test_a_holdout_is_reproduced(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle names the training set that was split, and needs no validation set."""
    sweep = ["sweep", "--train", str(tiny / "train.beton"), "--holdout", "0.25", "--methods", "random", "--ipc", "2"]
    sweep += ["--protocol", "hard-small*epochs=2", "--arch", "convnet1_w4", "--image-size", "28", "--quiet"]
    assert cli.run([*sweep, "--workdir", str(tmp_path / "work")]) == 0
    assert cli.run(["bundle", str(tmp_path / "work")]) == 0
    shutil.rmtree(tmp_path / "work")
    assert [each.name for each in load_bundle(tmp_path / "work.zip").index.data] == ["train"]
    assert cli.run(["reproduce", str(tmp_path / "work.zip"), "--train", str(tiny / "train.beton"), "--quiet"]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 runs have the same digits\n")
