"""External sets in a bundle: packed separately, checked, used from the bundle, and reported if lost."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import BetonFile, describe_beton
from fastdc.cli import main as cli
from fastdc.common.errors import BundleError, StoreError
from fastdc.common.text import format_bytes
from fastdc.report.rows import make_rows
from fastdc.report.table import plain_table
from fastdc.sweep.bundle import external_files
from fastdc.sweep.bundle.bundle_archive import read_archive, write_archive
from fastdc.sweep.bundle.pack_bundle import write_bundle
from fastdc.sweep.bundle.read_bundle import load_bundle
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig, load_config
from tests.sweep.bundle.conftest import names_in
from tests.sweep.bundle.test_reproduce import reproduce

NAMES = ("a", "b", "mine", "theirs")


@pytest.fixture(scope="module")
def swept(ran: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep of two betons of one file name, a list, scores and a method; the sets are beside its folder."""
    folder = tmp_path_factory.mktemp("swept")
    for name, beton in zip(("x1", "x2"), sorted((ran / "subsets").glob("*.beton")), strict=False):
        (folder / name).mkdir()
        for suffix in (".beton", ".json", ".list.tsv"):
            shutil.copy(beton.with_suffix(suffix), folder / name / f"s{suffix}")
    (folder / "kept.txt").write_text("".join(f"{name}/{n}\n" for name in ("bark", "moss", "sand") for n in (3, 5)))
    np.save(folder / "el2n.npy", np.random.default_rng(0).random(120))
    before = Path.cwd()
    os.chdir(folder)
    try:
        config = SweepConfig(
            train=tiny / "train.beton",
            val=tiny / "val.beton",
            workdir=Path("run"),
            methods=(
                *("random", "a=x1/s.beton", "b=x2/s.beton", "mine=list:kept.txt[fit=pad]"),
                "theirs=scores:el2n.npy[keep=easy,index_order=own]",
            ),
            ipc=(2,),
            protocols=("hard-small*epochs=1",),
            archs=("convnet1_w4",),
            image_size=28,
            threads=1,
            set={"a": {"protocol.lr": 0.02}},
        )
        _, outcome = run_sweep(config, show_progress=False)
    finally:
        os.chdir(before)
    assert outcome.states == {"done": 5}
    return folder


@pytest.fixture
def there(swept: Path, tmp_path: Path) -> Path:
    """Return bundles of the sweep with and without betons; restore its sets after the test."""
    write_bundle(swept / "run", tmp_path / "small.zip")
    write_bundle(swept / "run", tmp_path / "whole.zip", with_subsets=True)
    return tmp_path


@pytest.fixture
def away(swept: Path, there: Path) -> Iterator[Path]:
    """Hide the sets of the sweep; return the bundles."""
    hidden = swept.with_name(f"{swept.name}-away")
    swept.rename(hidden)
    yield there
    hidden.rename(swept)


def test_betons_of_one_name_are_packed_separately(swept: Path, there: Path) -> None:
    index = load_bundle(there / "whole.zip").index
    assert index.notes == ()
    assert [each.name for each in index.external] == list(NAMES)
    assert len({each.file for each in index.external}) == 4
    with zipfile.ZipFile(there / "whole.zip") as archive:
        for facts, name in zip(index.external, ("x1", "x2"), strict=False):
            assert facts.content == describe_beton(swept / name / "s.beton").content_hash
            for suffix in (".beton", ".json", ".list.tsv"):
                packed = str(facts.file).replace(".beton", suffix)
                assert archive.read(packed) == (swept / name / f"s{suffix}").read_bytes()
    small = names_in(there / "small.zip")
    assert [name.rpartition("/")[2] for name in small if name.startswith("external/")] == [
        *("s.json", "s.list.tsv", "s.json", "s.list.tsv", "kept.txt", "el2n.npy")
    ]
    with Store(swept / "run" / "store.sqlite", readonly=True) as store:
        table = plain_table(make_rows(store.records()))
    assert "a (external): beton x1/s.beton" in table
    assert "b (external): beton x2/s.beton" in table


def test_betons_are_compressed_and_equal_folders_give_equal_bytes(swept: Path, there: Path) -> None:
    """A small beton is one page of 8 MB that is nearly empty."""
    stored = sum(each.size for each in read_archive(there / "whole.zip") if each.name.endswith(".beton"))
    assert stored > 40e6
    assert (there / "whole.zip").stat().st_size < 1e6
    write_bundle(swept / "run", there / "again.zip", with_subsets=True)
    assert (there / "again.zip").read_bytes() == (there / "whole.zip").read_bytes()


def test_many_small_betons_are_no_archive_bomb(there: Path) -> None:
    page = bytes(8 << 20)
    write_archive(there / "many.zip", {f"{number}.beton": page for number in range(12)})
    assert len([None for each in read_archive(there / "many.zip") if each.size]) == 12
    write_archive(there / "bomb.zip", {f"{number}.json": page for number in range(12)})
    with pytest.raises(BundleError, match="unpack to more than 200 times its size"):
        list(read_archive(there / "bomb.zip"))


def test_packed_sets_are_used_from_the_bundle(away: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(away / "whole.zip", tiny, "--check-only") == 0
    out = capsys.readouterr().out
    assert out.count("does not exist, expected the file of external set") == 4
    assert "external set a: " in out
    assert "; the bundle has external/" in out
    assert reproduce(away / "whole.zip", tiny) == 0
    assert capsys.readouterr().out.endswith("5 of 5 runs have the same digits\n")


def test_a_lost_set_stops_only_its_own_rows(away: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(away / "small.zip", tiny, "--check-only") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "not ready: 2 of 4 files of external sets missing or changed"
    lost = [line.partition(":")[0] for line in lines if "the bundle lacks it" in line]
    assert lost == ["external set a", "external set b"]
    assert reproduce(away / "small.zip", tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines if line.endswith(": same digits")) == ["mine", "random", "theirs"]
    for name, folder in (("a", "x1"), ("b", "x2")):
        (line,) = [line for line in lines if line.startswith(f"{name} ipc")]
        assert "NOT MADE: no sweep of the bundle gives this run today; " in line
        assert f"{folder}/s.beton: does not exist, expected the file of external set {name}" in line
        assert "give the file itself to reproduce --external" in line
    assert lines[-1] == "3 of 5 runs have the same digits"


def test_betons_that_are_not_packed_are_named_with_their_sizes(
    swept: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [format_bytes((swept / name / "s.beton").stat().st_size) for name in ("x1", "x2")]
    assert cli.run(["bundle", str(swept / "run"), "--out", str(there / "again.zip")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "not packed" in line]
    assert notes == [
        f"note: not packed: the betons of a ({sizes[0]}), b ({sizes[1]}); --with-subsets packs them, or give the file "
        "itself to reproduce --external"
    ]
    assert load_bundle(there / "whole.zip").index.notes == ()


def test_files_given_elsewhere_are_found_by_content(
    away: Path, swept: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []
    for name in ("x1", "x2"):
        for suffix in (".beton", ".json"):
            shutil.copy(swept.with_name(f"{swept.name}-away") / name / f"s{suffix}", away / f"{name}{suffix}")
        given += ["--external", str(away / f"{name}.beton")]
    assert reproduce(away / "small.zip", tiny, "--check-only", *given) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ready: ")
    assert reproduce(away / "small.zip", tiny, *given) == 0
    assert capsys.readouterr().out.endswith("5 of 5 runs have the same digits\n")
    other = str(tiny / "train.beton")
    assert reproduce(away / "small.zip", tiny, "--check-only", "--external", other) == 2
    assert f"--external {other}: has content " in capsys.readouterr().err


def test_a_changed_file_is_named_with_both_contents(
    swept: Path, there: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, beton = (swept / "kept.txt").read_text(), swept / "x1" / "s.beton"
    saved = {each: each.read_bytes() for each in (beton, beton.with_suffix(".json"))}
    try:
        (swept / "kept.txt").write_text("bark/1\nmoss/1\nsand/1\n")
        for each in saved:
            shutil.copy(swept / "x2" / each.name, each)
        assert reproduce(there / "small.zip", tiny, "--check-only") == 1
        out = capsys.readouterr().out
        assert "external set mine: " in out
        assert f"external set a: {beton}: has content " in out
        assert "not ready: 1 of 4 files" in out
        assert reproduce(there / "small.zip", tiny) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if "NOT MADE" in line] == ["a"]
        assert lines[-1] == "4 of 5 runs have the same digits"
        index = write_bundle(swept / "run", there / "late.zip", with_subsets=True)
        assert len(index.notes) == 2
        assert f"external set a: {beton}: has content " in index.notes[0]
        for each, data in saved.items():
            each.write_bytes(data)
        at = BetonFile(beton).offsets[0] + 40
        beton.write_bytes(saved[beton][:at] + b"damage" + saved[beton][at + 6 :])
        assert reproduce(there / "small.zip", tiny, "--check-only") == 1
        assert f"external set a: {beton}: " in (out := capsys.readouterr().out)
        assert "sample 0" in out
        beton.unlink()
        with pytest.raises(StoreError, match=r"s.beton: missing, and rows were trained on it"):
            write_bundle(swept / "run", there / "lost.zip", with_subsets=True)
    finally:
        (swept / "kept.txt").write_text(before)
        for each, data in saved.items():
            each.write_bytes(data)


def test_a_sweep_of_the_unpacked_bundle_finds_its_files(
    there: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(there / "whole.zip") as archive:
        archive.extractall(there / "unpacked")
    for name in ("train", "val"):
        for suffix in (".beton", ".json"):
            shutil.copy(tiny / f"{name}{suffix}", there / "unpacked")
    monkeypatch.chdir(there / "unpacked")
    commands = Path("commands.sh").read_text()
    assert "# external set a: external/" in commands
    (sweep,) = [line.split() for line in commands.splitlines() if line.startswith("fastdc sweep")]
    assert cli.run([*sweep[1:], "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert all(f"missing  {name} ipc" in out for name in NAMES)
    keys = {row["key"] for row in load_bundle(there / "whole.zip").rows}
    assert {cell.key for cell in make_plan(load_config(Path("sweeps/1.yaml"), {})).cells} == keys


def test_a_large_file_of_values_is_packed_only_on_request(
    swept: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_files, "MAX_LIST", 100)
    index = write_bundle(swept / "run", there / "less.zip")
    assert [each.file is None for each in index.external] == [True, True, False, True]
    assert "el2n.npy has 1.1 kB; only --with-subsets packs it" in index.notes[0]


def test_an_index_cannot_name_files_outside_the_folder(there: Path) -> None:
    members = {each.name: b"".join(each.pieces) for each in read_archive(there / "small.zip")}
    index = json.loads(members["bundle.json"])
    for file in ("../kept.txt", "external/000000000000/../../x", "external/000000000000/none.txt"):
        index["external"][2]["file"] = file
        members["bundle.json"] = json.dumps(index).encode()
        write_archive(there / "evil.zip", members)
        with pytest.raises(BundleError, match=r"external\.2\.file=|lacks external/000000000000/none.txt"):
            load_bundle(there / "evil.zip")
