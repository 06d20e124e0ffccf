"""Parquet shards as on the Hugging Face hub, as a source."""

import re
import sys

import numpy as np
import pytest

from fastdc.beton import BetonFile, load_manifest, verify_beton, write_beton
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.errors import SourceError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tests.beton.hub_shards import STRUCT, found, payloads, write_shard  # noqa: E402  after the check for pyarrow


def test_bytes_labels_and_order_are_those_of_the_rows(hub, jpegs, tmp_path):
    out = tmp_path / "train.beton"
    manifest = write_beton(hub, out, split="train")
    assert payloads(out) == jpegs
    with BetonFile(out) as file:
        assert file.labels.tolist() == [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2]
    assert manifest.ids[0] == "data/train-00000-of-00002.parquet:0"
    assert manifest.ids[-1] == "data/train-00001-of-00002.parquet:4"
    assert (manifest.dataset, manifest.split, manifest.counts) == ("hub", "train", (4, 4, 4))
    assert manifest.made["columns"] == ["image", "class_id"]
    assert verify_beton(out, deep=True) == []
    assert load_manifest(out).hashes == manifest.hashes


@pytest.mark.parametrize("encoding", ["keep", "jpg"])
def test_any_number_of_workers_writes_the_same_file(hub, tmp_path, encoding):
    written = []
    for workers in (1, 3):
        out = tmp_path / f"{workers}.beton"
        write_beton(hub, out, split="train", encoding=encoding, workers=workers)
        written.append((out.read_bytes(), out.with_suffix(".json").read_bytes()))
    assert written[0] == written[1]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_of_any_size_give_every_row_once(hub, jpegs, monkeypatch, tmp_path, batch):
    monkeypatch.setattr("fastdc.beton.sources.parquet._MAX_BATCH", batch)
    write_beton(hub, tmp_path / "x.beton", split="train")
    assert payloads(tmp_path / "x.beton") == jpegs


def test_some_rows_in_any_order(hub, jpegs):
    with open_source(hub, SourceOptions(split="train")) as opened:
        wanted = [list(opened.contents.paths())[row] for row in (9, 2, 2, 0)]
        got = {number: fetch() for number, fetch in opened.files.fetch_all(wanted)}
    assert got == {0: jpegs[9], 1: jpegs[2], 2: jpegs[2], 3: jpegs[0]}


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_splits_have_the_aliases_of_folders(hub, split):
    assert len(found(hub, split).ids) == 3


def test_a_split_is_needed_and_must_exist(hub):
    with pytest.raises(SourceError, match="has the splits train, validation; choose one with --split"):
        found(hub)
    with pytest.raises(SourceError, match="has no split 'test'; it has train, validation"):
        found(hub, "test")


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (("train/0000.parquet", "test/0000.parquet"), "test", ["test/0000.parquet"]),
        (("default/train/0000.parquet", "default/train/0001.parquet"), "train", None),
        (("photos_train_1.parquet", "photos_val.parquet"), "train", ["photos_train_1.parquet"]),
        (("data/easy-00000-of-00001-ab12.parquet", "data/hard-00000-of-00001.parquet"), "hard", None),
        (("data/part-00000-of-00002.parquet", "data/part-00001-of-00002.parquet"), None, None),
        (("a.parquet", "b.PARQUET"), None, None),
        (("data/a.parquet", "metadata.parquet"), None, ["data/a.parquet"]),
        (("train/part-00000-of-00001.parquet", "val/part-00000-of-00001.parquet"), "val", None),
    ],
)
def test_names_of_shards(tmp_path, jpegs, names, split, expected):
    for name in names:
        write_shard(tmp_path / name, jpegs[:2], [0, 1])
    chosen = sorted({id.rpartition(":")[0] for id in found(tmp_path, split).ids})
    assert chosen == (expected or [name for name in names if split is None or split in name])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train-00000-of-00003.parquet", "train-00002-of-00003.parquet"), "1 of 3 shards are missing.*number 00001"),
        (("train-00000-of-00001.parquet", "train-00000-of-00002.parquet"), "shards of 1 and of 2 together"),
        (("train-00000-of-00001-aa.parquet", "train-00000-of-00001-bb.parquet"), "have the same number"),
        (("full/train/0.parquet", "small/train/0.parquet"), "in several folders .full/train, small/train."),
    ],
)
def test_incomplete_or_mixed_downloads_are_refused(tmp_path, jpegs, names, words):
    for name in names:
        write_shard(tmp_path / name, jpegs[:2], [0, 1])
    with pytest.raises(SourceError, match=words):
        found(tmp_path, "train")


def test_one_file_needs_no_split(hub):
    shard = hub / "data/train-00000-of-00002.parquet"
    assert len(found(shard).ids) == len(found(shard, "train").ids) == 7
    with pytest.raises(SourceError, match="is of the split 'train', but the requested split is 'val'"):
        found(shard, "val")


def test_a_parquet_file_among_class_folders_is_ignored(folder, jpegs):
    write_shard(folder / "class_0" / "features.parquet", jpegs[:1], [0])
    write_shard(folder / "metadata.parquet", jpegs[:1], [0])
    assert found(folder).classes == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
def test_plain_binary_columns(tmp_path, jpegs, kind, columns):
    source = write_shard(tmp_path / "x.parquet", jpegs[:4], [0, 1, 1, 0], kind=kind, columns=columns)
    manifest = write_beton(source, tmp_path / "x.beton")
    assert payloads(tmp_path / "x.beton") == jpegs[:4]
    assert manifest.made["columns"] == list(columns)
    assert manifest.dataset == "x"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "no image bytes .null."),
        ({"bytes": None, "path": "a.jpg"}, "no image bytes .null."),
        (b"", "empty file"),
        (b"<html>", "it is a web page"),
    ],
)
def test_rows_without_a_readable_image(tmp_path, jpegs, image, words):
    source = write_shard(tmp_path / "x.parquet", [jpegs[0], image, jpegs[2]], [0, 0, 1])
    with pytest.raises(SourceError, match=f"x.parquet:1: .*{words}"):
        write_beton(source, tmp_path / "x.beton")
    manifest = write_beton(source, tmp_path / "x.beton", on_error="skip")
    assert [item.path for item in manifest.skipped] == ["x.parquet:1"]
    assert payloads(tmp_path / "x.beton") == [jpegs[0], jpegs[2]]


def test_other_formats_are_converted(tmp_path, make_picture, to_file):
    picture = make_picture(10, 12, 1)
    images = [to_file(picture, "PNG"), to_file(picture, "WEBP", lossless=True)]
    manifest = write_beton(write_shard(tmp_path / "x.parquet", images, [0, 0]), tmp_path / "x.beton")
    assert manifest.converted == {"png": 1, "webp": 1}
    with BetonFile(tmp_path / "x.beton") as file:
        for index in range(2):
            np.testing.assert_array_equal(file.decode(index), picture)


@pytest.mark.parametrize(
    ("columns", "kind", "labels", "words"),
    [
        (("picture", "label"), None, [0, 1], r"no image column \(known names: image, img\); it has picture, label"),
        (("image", "target"), None, [0, 1], r"no label column .*; it has image, target"),
        (("image", "label"), pa.string(), [0, 1], "column 'image' is string, expected the bytes of image files"),
        (("image", "label"), None, [0.5, 1.5], "column 'label' is double, expected integers or names"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, columns, kind, labels, words):
    images = ["a", "b"] if kind else [b"a", b"b"]
    with pytest.raises(SourceError, match=f"x.parquet: {words}"):
        found(write_shard(tmp_path / "x.parquet", images, labels, kind=kind, columns=columns))


def test_shards_of_different_sets_are_refused(tmp_path, jpegs):
    first = write_shard(tmp_path / "data/train-00000-of-00002.parquet", jpegs[:2], [0, 1], names=["a", "b"])
    second = tmp_path / "data/train-00001-of-00002.parquet"
    for options, words in (
        (
            {"kind": pa.binary()},
            "has images in image and numbers in class_id, .*00000-of-00002.parquet image.bytes and",
        ),
        ({"columns": ("image", "label")}, "numbers in label"),
        ({"names": ["a", "c"]}, "names other classes than"),
    ):
        write_shard(second, jpegs[2:4], [0, 1], **{"names": ["a", "b"], **options})
        with pytest.raises(SourceError, match=words):
            found(tmp_path, "train")
    assert first.exists()


def test_truncated_or_foreign_shards(hub, tmp_path):
    path = hub / "data/train-00001-of-00002.parquet"
    whole = path.read_bytes()
    for data, words in (
        (whole[: len(whole) // 2], "cannot be read as parquet .*it may be cut off"),
        (b"", "cannot be read as parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer.*git lfs pull"),
    ):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=f"train-00001-of-00002.parquet: {words}"):
            write_beton(hub, tmp_path / "x.beton", split="train")
    assert not (tmp_path / "x.beton").exists()


def test_damage_inside_a_shard_is_named_and_never_skipped(tmp_path, make_picture, to_file):
    images = [to_file(make_picture(64, 64, seed), quality=95) for seed in range(40)]
    source = write_shard(tmp_path / "x.parquet", images, [0] * 40, row_group_size=10, compression="zstd")
    start = pq.ParquetFile(source).metadata.row_group(2).column(0).data_page_offset
    data = bytearray(source.read_bytes())
    data[start : start + 400] = bytes(400)
    source.write_bytes(data)
    with pytest.raises(SourceError, match=r"x.parquet: damaged after row (20|0) \(.*\); get the shard again"):
        write_beton(source, tmp_path / "x.beton", on_error="skip")
    assert not (tmp_path / "x.beton").exists()


def test_a_wrong_label_of_a_lone_file_has_its_place_once(tmp_path, jpegs):
    source = write_shard(tmp_path / "neg.parquet", jpegs[:3], [0, 1, -2])
    with pytest.raises(SourceError, match=rf"^{re.escape(str(tmp_path))}/neg\.parquet:2: label -2, expected 0\.\.1"):
        write_beton(source, tmp_path / "x.beton")


def test_empty_shards(tmp_path, jpegs):
    write_shard(tmp_path / "0.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(SourceError, match="no row with a usable label; they have no rows"):
        found(tmp_path)
    write_shard(tmp_path / "1.parquet", jpegs[:2], [0, 1])
    assert list(found(tmp_path).ids) == ["1.parquet:0", "1.parquet:1"]


def test_without_pyarrow_the_error_names_the_extra(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"needs pyarrow, .*pip install '\.\[hf\]'"):
        found(hub, "train")


def test_folders_of_images_need_no_pyarrow(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert write_beton(folder, tmp_path / "x.beton").counts == (4, 4, 4)


def test_a_shard_that_is_replaced_after_its_labels_were_read(hub, jpegs, tmp_path):
    shard = hub / "data/train-00000-of-00002.parquet"
    with open_source(hub, SourceOptions(split="train")) as opened:
        new = write_shard(tmp_path / "new", jpegs[:7][::-1], [0, 1, 2, 0, 1, 2, 0], row_group_size=3)
        new.replace(shard)
        with pytest.raises(SourceError, match=r"train-00000-of-00002\.parquet: changed while it was read"):
            write_beton(opened, tmp_path / "x.beton")
    assert not (tmp_path / "x.beton").exists()


def test_a_column_named_like_a_field_of_another(tmp_path, jpegs):
    images = pa.array([{"bytes": data, "path": None} for data in jpegs[:2]], STRUCT)
    table = pa.table({"image.bytes": pa.array(jpegs[2:4], pa.binary()), "image": images, "label": pa.array([0, 1])})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a column is called 'image\.bytes', like a part of another"):
        found(tmp_path)


def test_metadata_that_is_nested_too_deeply(tmp_path, jpegs):
    table = pa.table({"image": pa.array(jpegs[:1], pa.binary()), "label": pa.array([0])})
    table = table.replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="huggingface metadata is nested too deeply"):
        found(tmp_path)


@pytest.mark.parametrize("below", ["", "train/"])
def test_an_image_folder_with_a_stray_shard_is_an_image_folder(tmp_path, folder, jpegs, below):
    root = tmp_path / "set"
    (root / below).mkdir(parents=True)
    for path in folder.iterdir():
        path.rename(root / below / path.name)
    write_shard(root / "features.parquet", jpegs[:2], [0, 1])
    assert found(root, below[:-1] or None).classes == ("class_0", "class_1", "class_2")


def test_pictures_beside_the_shards_of_a_repository_are_ignored(hub, jpegs):
    for name in ("assets/a.jpg", "docs/b.jpg"):
        (hub / name).parent.mkdir()
        (hub / name).write_bytes(jpegs[0])
    assert len(found(hub, "train").ids) == 12


def test_columns_of_any_name_are_chosen(tmp_path, jpegs):
    images = pa.array([{"bytes": data, "path": None} for data in jpegs[:2]], STRUCT)
    table = pa.table(
        {"image": pa.array([1, 2]), "photo": images, "label": pa.array(["x", "x"]), "kind": pa.array([1, 0])}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    made = write_beton(tmp_path / "a.parquet", tmp_path / "x.beton", image_column="photo", label_column="kind")
    assert (made.made["columns"], made.counts, payloads(tmp_path / "x.beton")) == (["photo", "kind"], (1, 1), jpegs[:2])
    for option, what in (("image_column", "image"), ("label_column", "label")):
        with pytest.raises(
            SourceError, match=f"no column 'it', which --{what}-column names; it has image, photo, label"
        ):
            write_beton(tmp_path / "a.parquet", tmp_path / "y.beton", **{option: "it"})


def nested(kind, depth):
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int64()])
@pytest.mark.parametrize("shape", [(5, 7, 3), (3, 5, 7), (5, 7), (5, 7, 1)])
def test_lists_of_pixels_are_images(tmp_path, kind, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape))
    source = write_shard(tmp_path / "x.parquet", pixels.tolist(), [0, 1, 1, 0], kind=nested(kind, len(shape)))
    write_beton(source, tmp_path / "x.beton")
    with BetonFile(tmp_path / "x.beton") as file:
        for index in range(4):
            picture = pixels[index].transpose(1, 2, 0) if shape[0] == 3 else pixels[index].reshape(5, 7, -1)
            np.testing.assert_array_equal(file.decode(index), np.broadcast_to(picture, (5, 7, 3)))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ([[0, 1], [2, 256]], "from 0 to 256, expected whole numbers 0..255"),
        ([[0, 1], [2, -1]], "from -1 to 2, expected whole numbers 0..255"),
        ([[0, 1], [2]], "its rows of pixels differ in length"),
        ([], "its rows of pixels differ in length, or there are none"),
        ([[], []], r"pixels of shape \[2, 0\]"),
        (None, "no pixels .null."),
        ([[0, None], [1, 2]], "some of its pixels are null, expected whole numbers"),
    ],
)
def test_pixels_that_are_no_image(tmp_path, pixels, words):
    good = [[1, 2], [3, 4]]
    source = write_shard(tmp_path / "x.parquet", [good, pixels], [0, 0], kind=nested(pa.int64(), 2))
    with pytest.raises(SourceError, match=f"x.parquet:1: .*{words}"):
        write_beton(source, tmp_path / "x.beton")


def test_lists_of_another_depth_or_of_fractions_are_refused(tmp_path):
    for kind, images in ((nested(pa.uint8(), 1), [[1], [2]]), (nested(pa.float32(), 2), [[[0.5]], [[1.0]]])):
        with pytest.raises(
            SourceError, match=r"column 'image' is list.*expected the bytes of image files .* or lists of"
        ):
            found(write_shard(tmp_path / "x.parquet", images, [0, 1], kind=kind, columns=("image", "label")))


def test_a_huge_total_in_a_shard_name_is_checked_without_listing_it(tmp_path, jpegs):
    write_shard(tmp_path / "set" / "train-00000-of-99999999999.parquet", jpegs[:2], [0, 1])
    with pytest.raises(SourceError, match="99999999998 of 99999999999 shards are missing, the first is number 00001"):
        write_beton(tmp_path / "set", tmp_path / "x.beton", split="train")


def test_a_damaged_name_of_a_column_is_one_line(tmp_path, jpegs):
    shard = write_shard(tmp_path / "x.parquet", jpegs[:2], [0, 1])
    head, _, tail = shard.read_bytes().rpartition(b"image")
    shard.write_bytes(head + b"im\xaege" + tail)
    with pytest.raises(SourceError, match=r"x.parquet: damaged after row 0 \(.*can't decode.*\); get the shard again"):
        write_beton(shard, tmp_path / "x.beton")
