"""Rows trained again from scratch, and entropies of stored images: real trainings on a tiny set."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import study
from studies.drawing import outputs
from studies.measuring import AREAS
from studies.rows import read_rows

from tests.benchmarks.study_rows import write_study
from tests.sweep.conftest import make_tiny

OBSERVER = {"arch": "convnet_w16", "epochs": 10, "image_size": 28, "batch_size": 32, "threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a study of random and pca with two seeds; work folder and betons are beside it."""
    folder = tmp_path_factory.mktemp("ran")
    make_tiny(folder / "train.beton", 40, seed=0)
    make_tiny(folder / "val.beton", 20, seed=1)
    common = {"image_size": 28, "threads": 1, "precision": "fp32", "archs": ["convnet1_w4"], "observer": OBSERVER}
    common["protocols"] = ["hard-small*epochs=2"]
    changes: dict[str, Any] = {name: str(folder / f"{name}.beton") for name in ("train", "val")}
    blocks = [{"name": "all", "methods": ["random", "pca"], "ipc": [2], "seeds": "0-1"}]
    changes |= {"workdir": str(folder / "work"), "common": common, "blocks": blocks}
    write_study(folder, study=changes, questions={"column": {"ipc": 2}})
    assert study.main(["run", "--study", str(folder)]) == 0
    assert len(read_rows(folder)) == 4
    assert "4 of the 4 rows" in (folder / "README.md").read_text()
    return folder


def test_rows_trained_again_give_the_same_digits(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run's work folder is not read: observers and sets are made again."""
    (ran / "work").rename(ran / "away")
    try:
        assert study.main(["verify", "4", "--study", str(ran), "--workdir", str(tmp_path / "again")]) == 0
    finally:
        (ran / "away").rename(ran / "work")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(":")[0] for line in lines if "same digits" in line) == sorted(
        f"{method} ipc 2 hard-small*epochs=2 convnet1_w4 seed {seed}" for method in ("random", "pca") for seed in (0, 1)
    )
    assert study.main(["verify", "1", "--study", str(ran), "--workdir", str(tmp_path / "again")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert study.main(["verify", "5", "--study", str(ran)]) == 2
    assert "verify 5: expected 1 to 4" in capsys.readouterr().err


def test_a_changed_digit_or_key_is_named(ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_rows(ran)
    changed = next(row for row in rows if row["label"]["method"] == "random")
    other = next(row for row in rows if row["label"]["method"] == "random" and row is not changed)
    changed["summary"]["top1"] += 1e-9
    changed["detail"]["curve"][-1]["loss"] = 0.5
    other["key"] = "0" * 32
    for name in ("study.yaml", "questions.yaml", "claims.yaml"):
        (tmp_path / name).write_bytes((ran / name).read_bytes())
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (changed, other)))
    assert study.main(["verify", "2", "--study", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("DIFFERS: top1" in line and "curve from epoch 2" in line for line in lines)
    assert any("NOT MADE: no block of study.yaml gives its key" in line for line in lines)


def test_the_choice_of_rows_follows_its_seed(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[int, list[str]] = {}
    for seed in (0, 0, 1, 2, 3):
        keys: list[str] = []
        monkeypatch.setattr("studies.verifying._verify_one", lambda row, *_, found=keys: found.append(row["key"]))
        study.main(["verify", "2", "--study", str(ran), "--seed", str(seed)])
        assert chosen.setdefault(seed, keys) == keys
    assert len({tuple(keys) for keys in chosen.values()}) > 1


def test_entropies_of_whole_images_and_crops(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The observer of seed 1 labels the sets of seed 0; mosaics are cropped whole and inside a tile."""
    assert study.main(["entropy", "--teacher", "observer", "--study", str(ran), "--seeds", "0"]) == 0
    first = (ran / "entropy.csv").read_bytes()
    lines = list(csv.DictReader(first.decode().splitlines()))
    kinds = [("random", "image"), ("pca", "image"), ("pca", "hints")]
    assert [(each["method"], each["crops"], float(each["area"])) for each in lines] == [
        (*kind, area) for kind in kinds for area in AREAS
    ]
    assert {(each["network"], each["images"], each["sets"]) for each in lines} == {
        ("observer (convnet_w16, 10 epochs), seed 1", "6", "1")
    }
    assert all(0 < float(each["entropy"]) <= math.log(3) for each in lines)
    assert len({each["entropy"] for each in lines}) == len(lines)
    assert study.main(["entropy", "--teacher", "observer", "--study", str(ran), "--seeds", "0"]) == 0
    assert (ran / "entropy.csv").read_bytes() == first
    assert "figures/h-entropy-observer-convnet-w16-10-epochs-seed-1.svg" in outputs(ran)
    for seeds in ("0-1", "7", ""):
        assert study.main(["entropy", "--teacher", "observer", "--study", str(ran), "--seeds", seeds]) == 2
        assert "--seeds: expected some of the study's seeds 0, 1" in capsys.readouterr().err
