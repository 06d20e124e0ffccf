"""Exported sets that are imported again: recognised in any container, refused if they changed."""

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from fastdc.beton import load_manifest, write_beton
from fastdc.beton.export.export_images import export_images
from fastdc.common.errors import ConfigError, ManifestError, SourceError
from tests.beton.export.conftest import encode, odd_set, smooth, write_set  # noqa: F401

OTHERWISE = "or remove fastdc.json to write the images as any others"


@pytest.fixture
def out(odd_set: Path, tmp_path: Path) -> Path:  # noqa: F811
    export_images(odd_set, tmp_path / "out", "folder")
    return tmp_path / "out"


def refused(source: Path, error: type[Exception] = SourceError, **options: object) -> str:
    place = source.parent / "refused.beton"
    with pytest.raises(error) as raised:
        write_beton(source, place, **options)  # type: ignore[arg-type]
    assert not place.exists()
    assert not place.with_suffix(".json").exists()
    return str(raised.value)


def file_of(out: Path, number: int) -> Path:
    return next(out.glob(f"*/{number:04d}.*"))


def test_an_archive_of_an_export_comes_back(out: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "out.tar.gz", "w:gz") as archive:
        archive.add(out, "some/out")
    old = load_manifest(tmp_path / "odd.beton")
    assert write_beton(tmp_path / "out.tar.gz", tmp_path / "y.beton").content_hash == old.content_hash
    assert load_manifest(tmp_path / "y.beton").hints == old.hints
    assert "leave --encoding, --resolution and --hint out" in refused(
        tmp_path / "out.tar.gz", ConfigError, hints=["tile_grid=3"]
    )


def test_exports_of_several_splits_side_by_side(out: Path, tmp_path: Path) -> None:
    shutil.move(out, tmp_path / "sets" / "train")
    made = write_beton(tmp_path / "sets", tmp_path / "y.beton", split="train")
    assert made == load_manifest(tmp_path / "odd.beton")


def test_a_snapshot_in_the_hub_cache_comes_back(odd_set: Path, tmp_path: Path) -> None:  # noqa: F811
    snapshot = tmp_path / "datasets--me--odd" / "snapshots" / ("0" * 40)
    (tmp_path / "datasets--me--odd" / "blobs").mkdir(parents=True)
    snapshot.parent.mkdir()
    export_images(odd_set, snapshot, "hf")
    assert write_beton(tmp_path / "datasets--me--odd", tmp_path / "y.beton") == load_manifest(odd_set)


def test_without_its_record_an_export_is_an_ordinary_source(out: Path, tmp_path: Path) -> None:
    (out / "fastdc.json").unlink()
    made = write_beton(out, tmp_path / "y.beton")
    assert made.hints == {}
    assert made.classes == tuple(sorted(path.name for path in out.iterdir()))


def test_a_replaced_image(out: Path) -> None:
    path = file_of(out, 4)
    path.write_bytes(encode(smooth(16, 20, seed=99)))
    assert refused(out) == (
        f"{path}: is not the image that was exported (its hash differs); put that back, {OTHERWISE}"
    )


def test_a_damaged_image(out: Path) -> None:
    path = file_of(out, 3)
    path.write_bytes(path.read_bytes()[:-200])
    assert refused(out).startswith(f"{path}: cannot be decoded:")


def test_a_missing_image(out: Path) -> None:
    file_of(out, 7).unlink()
    assert refused(out) == (
        f"{out}: 1 of 18 exported images are missing, the first is number 7 (cat/7.jpg+x); put them back, {OTHERWISE}"
    )


def test_an_added_image(out: Path) -> None:
    path = file_of(out, 7).with_name("9999.jpg")
    path.write_bytes(file_of(out, 7).read_bytes())
    assert refused(out) == f"{path}: was not exported; 1 images were added: move them out, {OTHERWISE}"


def test_an_added_image_without_a_number(out: Path) -> None:
    path = file_of(out, 0).with_name("more.jpg")
    path.write_bytes(file_of(out, 0).read_bytes())
    assert refused(out) == f"{path}: was not exported; 1 images were added: move them out, {OTHERWISE}"


def test_a_missing_sample_of_tars(odd_set: Path, tmp_path: Path) -> None:  # noqa: F811
    export_images(odd_set, tmp_path / "tars", "webdataset")
    path = tmp_path / "tars" / "tars-000000.tar"
    with tarfile.open(path) as archive:
        kept = [(member, archive.extractfile(member)) for member in archive if not member.name.startswith("0003.")]
        with tarfile.open(tmp_path / "new.tar", "w") as new:
            for member, stream in kept:
                new.addfile(member, stream)
    (tmp_path / "new.tar").replace(path)
    assert refused(tmp_path / "tars") == (
        f"{tmp_path}/tars: holds 17 images, of 18 that were exported; export the set again, {OTHERWISE}"
    )


def test_an_image_in_another_class(out: Path) -> None:
    path = file_of(out, 7)
    path.rename(out / ("plain" if path.parent.name != "plain" else "cat%_1") / path.name)
    assert "an image lies in another class, or fastdc.json was changed; export the set again" in refused(out)


def test_a_renamed_class(out: Path) -> None:
    (out / "plain").rename(out / "fancy")
    assert refused(out) == f"{out}/fancy: is not a class folder of the export; name it as it was, {OTHERWISE}"


def test_changed_hints(out: Path) -> None:
    path = out / "fastdc.json"
    path.write_text(path.read_text().replace('"tile_grid": 2', '"tile_grid": 3'))
    assert "classes or hints are not" in refused(out)


def test_changed_counts(out: Path) -> None:
    path, counts = out / "fastdc.json", load_manifest(out.parent / "odd.beton").counts
    changed = [counts[0] + 1, counts[1] - 1, *counts[2:]]
    path.write_text(path.read_text().replace(f'"counts": {list(counts)}', f'"counts": {changed}'))
    assert "fastdc.json was changed; export the set again" in refused(out)


def test_a_damaged_record_among_arrays(odd_set: Path, tmp_path: Path) -> None:  # noqa: F811
    export_images(odd_set, tmp_path / "x.npz", "npz")
    with (
        zipfile.ZipFile(tmp_path / "x.npz") as old,
        zipfile.ZipFile(tmp_path / "y.npz", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
        start = new.getinfo("fastdc.json").header_offset + 60
    data = bytearray((tmp_path / "y.npz").read_bytes())
    data[start : start + 60] = b"\xff" * 60
    (tmp_path / "y.npz").write_bytes(data)
    found = refused(tmp_path / "y.npz")
    assert found.startswith(f"{tmp_path}/y.npz: its fastdc.json cannot be read (")
    assert found.endswith("; get the file again")


@pytest.mark.parametrize("text", ["{}", "", "[]", '{"export_version": 1, "layout": "folder"}'])
def test_a_damaged_record(out: Path, text: str) -> None:
    (out / "fastdc.json").write_text(text)
    found = refused(out, ManifestError)
    assert found.startswith(f"{out}/fastdc.json: not the record of an export: ")
    assert found.count("\n") == 0


def test_a_record_of_a_later_version(out: Path) -> None:
    record = json.loads((out / "fastdc.json").read_text())
    (out / "fastdc.json").write_text(json.dumps({**record, "export_version": 2, "more": 1}))
    assert "export version 2, this fastdc reads up to 1; update fastdc" in refused(out, ManifestError)


def test_options_that_would_give_another_set(out: Path) -> None:
    assert "leave --classes out" in refused(out, classes=out.parent / "odd.beton")
    for options in ({"resolution": 8}, {"encoding": "raw"}, {"hints": ["tile_grid=3"]}):
        assert "leave --encoding, --resolution and --hint out" in refused(out, ConfigError, **options)
    write_beton(out, out.parent / "y.beton", encoding="keep")


@pytest.mark.parametrize(
    ("layout", "shard"), [("hf", "data/train-00000-of-00001.parquet"), ("webdataset", "x-000000.tar")]
)
def test_one_shard_of_an_export(odd_set: Path, tmp_path: Path, layout: str, shard: str) -> None:  # noqa: F811
    export_images(odd_set, tmp_path / "x", layout)
    found = refused(tmp_path / "x" / shard)
    assert f"is a part of an exported set; give its folder {tmp_path}/x, {OTHERWISE}" in found


def test_class_names_of_either_unicode_spelling_come_back(tmp_path: Path) -> None:
    write_set(tmp_path / "x.beton", ("e\u0301", "b", "c", "d", "e", "f"))
    export_images(tmp_path / "x.beton", tmp_path / "out", "folder")
    assert write_beton(tmp_path / "out", tmp_path / "y.beton") == load_manifest(tmp_path / "x.beton")
