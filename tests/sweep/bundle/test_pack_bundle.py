"""A bundle contains everything about a sweep, and depends only on the work folder."""

import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import describe_beton
from fastdc.cli import main as cli
from fastdc.common.errors import OutputError, StoreError
from fastdc.sweep.bundle.pack_bundle import write_bundle
from fastdc.sweep.bundle.read_bundle import load_bundle
from fastdc.sweep.cells import make_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
from fastdc.sweep.sweep_config import load_config
from tests.sweep.bundle.conftest import names_in


def content(path: Path, name: str) -> Any:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_a_bundle_contains_all_but_images_and_weights(ran: Path, packed: Path, tiny: Path) -> None:
    subsets = sorted(path.name for path in (ran / "subsets").iterdir() if path.suffix in (".json", ".tsv"))
    assert names_in(packed) == [
        *("bundle.json", "rows.jsonl", "environment.json", "commands.sh", "sweeps/1.yaml", "sweeps/2.yaml"),
        *("manifests/train.json", "manifests/val.json"),
        *(f"subsets/{name}" for name in sorted(subsets, key=lambda name: (name.split(".")[0], "list" in name))),
    ]
    assert content(packed, "manifests/train.json") == (tiny / "train.json").read_bytes()
    bundle = load_bundle(packed)
    with Store(ran / "store.sqlite", readonly=True) as store:
        for row in bundle.rows:
            record = next(each for each in store.records() if each.key == row["key"])
            assert row["detail"] == (store.detail(record.key) or {})
            assert row["provenance"] == store.provenance(record.key)
            assert (row["label"], row["summary"], row["state"]) == (record.label, record.summary, record.state)
    failed = [row for row in bundle.rows if row["state"] == "diverged"]
    assert len(failed) == 1
    assert "not finite" in failed[0]["reason"]
    assert bundle.index.rows == {"diverged": 1, "done": 6}
    machines = json.loads(content(packed, "environment.json"))
    assert [each["runs"] for each in machines] == [7]
    assert machines[0]["libraries"]["torch"]


def test_the_sweeps_have_the_same_keys_elsewhere(
    ran: Path, packed: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The YAML files record every choice, so a folder without the observer plans the same runs."""
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path)
    for name in ("train", "val"):
        shutil.copy(tiny / f"{name}.beton", tmp_path)
        shutil.copy(tiny / f"{name}.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    keys = {cell.key for file in ("1", "2") for cell in make_plan(load_config(Path(f"sweeps/{file}.yaml"), {})).cells}
    with Store(ran / "store.sqlite", readonly=True) as store:
        assert keys == set(store.states())
    commands = (tmp_path / "commands.sh").read_text()
    assert "fastdc sweep sweeps/1.yaml\nfastdc sweep sweeps/2.yaml\n" in commands
    assert describe_beton(tiny / "train.beton").content_hash in commands
    assert subprocess.run(["bash", "-n", "commands.sh"], check=False).returncode == 0


@pytest.mark.parametrize("name", ["b.zip", "b.tar.gz"])
def test_equal_folders_give_equal_bytes(ran: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(ran, tmp_path / "copy")
    for folder, out in ((ran, tmp_path / "one"), (tmp_path / "copy", tmp_path / "two")):
        out.mkdir()
        write_bundle(folder, out / name)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert load_bundle(tmp_path / "one" / name).index.rows == {"diverged": 1, "done": 6}


def test_betons_on_request(ran: Path, tmp_path: Path) -> None:
    write_bundle(ran, tmp_path / "whole.tar.gz", with_subsets=True)
    with tarfile.open(tmp_path / "whole.tar.gz") as archive:
        names = {name for name in archive.getnames() if name.endswith(".beton")}
    assert names == {f"subsets/{path.name}" for path in (ran / "subsets").glob("*.beton")}
    load_bundle(tmp_path / "whole.tar.gz")
    shutil.copytree(ran, tmp_path / "copy")
    lost, other = sorted((tmp_path / "copy" / "subsets").glob("*.beton"))[:2]
    other.write_bytes(other.read_bytes() + b"x")
    index = write_bundle(tmp_path / "copy", tmp_path / "changed.zip", with_subsets=True)
    assert index.notes == (f"subsets/{other.name}: changed after rows were trained on it",)
    lost.unlink()
    write_bundle(tmp_path / "copy", tmp_path / "text.zip")
    with pytest.raises(StoreError, match=f"{lost.name}: missing, and rows were trained on it; leave out"):
        write_bundle(tmp_path / "copy", tmp_path / "images.zip", with_subsets=True)
    assert not (tmp_path / "images.zip").exists()


def test_unfinished_runs_are_left_out_and_counted(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ran, tmp_path / "copy")
    with Store(tmp_path / "copy" / "store.sqlite") as store:
        store.register(Planned(f"key{number}", f"axes{number}", {}) for number in range(2))
        store.claim("key0")
        assert cli.run(["bundle", str(tmp_path / "copy")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'copy.zip'}: 1 diverged, 6 done; ")
    assert captured.err == "note: left out: 1 pending, 1 running\n"
    assert load_bundle(tmp_path / "copy.zip").index.left_out == {"pending": 1, "running": 1}
    monkeypatch.chdir(tmp_path / "copy" / "sweeps")
    assert cli.run(["bundle", "..", "--force", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'copy.zip'}: ")
    assert captured.err == ""


def test_lost_data_become_notes(ran: Path, tmp_path: Path) -> None:
    """Betons that moved or changed since the sweep are named; the hashes that were recorded stay."""
    shutil.copytree(ran, tmp_path / "copy")
    for path in (tmp_path / "copy" / "sweeps").iterdir():
        record = json.loads(path.read_text())
        record["config"]["train"] = str(tmp_path / "moved.beton")
        record["val"] = "0" * 32
        path.write_text(json.dumps(record))
    index = write_bundle(tmp_path / "copy", tmp_path / "out.zip")
    assert index.notes == (
        "train: no manifest, because moved.json is missing or damaged",
        "val: no manifest, because val.beton was changed after the sweep",
    )
    assert [each.manifest for each in index.data] == [None, None]
    assert b"# train.beton: moved.json is missing" in content(tmp_path / "out.zip", "commands.sh")


def test_what_cannot_be_bundled(ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ran, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "sweeps")
    with pytest.raises(StoreError, match="no sweep is recorded here, because an older fastdc ran it; run its command"):
        write_bundle(tmp_path / "copy", tmp_path / "out.zip")
    with pytest.raises(OutputError, match=r"expected a name that ends in \.zip or \.tar\.gz"):
        write_bundle(ran, tmp_path / "out.rar")
    (tmp_path / "taken.zip").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_bundle(ran, tmp_path / "taken.zip")
    assert (tmp_path / "taken.zip").read_text() == "mine"
    assert cli.run(["bundle", str(tmp_path)]) == 2
    assert "no result store here" in capsys.readouterr().err
    (tmp_path / "copy" / "sweeps").mkdir()
    (tmp_path / "copy" / "sweeps" / "a.json").write_text("{")
    with pytest.raises(StoreError, match=r"a\.json: damaged record of a sweep"):
        write_bundle(tmp_path / "copy", tmp_path / "out.zip")
    with Store(tmp_path / "new" / "store.sqlite") as store:
        store.register([Planned("key", "axes", {})])
    with pytest.raises(StoreError, match="no run has ended yet"):
        write_bundle(tmp_path / "new", tmp_path / "out.zip")
