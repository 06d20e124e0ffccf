"""Parquet shards as on the Hugging Face hub, as a source."""

import json
import sys

import numpy as np
import pytest

from fastdc.beton import BetonFile, load_manifest, verify_beton, write_beton
from fastdc.beton.opening import open_source
from fastdc.errors import ConfigError, OutputError, SourceError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def jpegs(make_picture, to_file):
    """Twelve different JPEG files."""
    return [to_file(make_picture(16, 20, seed), quality=90) for seed in range(12)]


def write_shard(path, images, labels, *, names=None, kind=None, columns=("image", "class_id"), **options):
    """One shard: images as the hub's Image feature (the default) or of another Arrow type, labels as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind is None:
        images = [data if data is None or isinstance(data, dict) else {"bytes": data, "path": None} for data in images]
    columns = dict(zip(columns, [pa.array(images, kind or STRUCT), pa.array(labels)], strict=True))
    table = pa.table(columns)
    if names is not None:
        label = {"names": list(names), "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, table.column_names[1]: label}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)
    return path


@pytest.fixture
def hub(tmp_path, jpegs):
    """A set as on the hub: train in two shards of several row groups, validation in one; labels 0..2, no names."""
    root = tmp_path / "hub"
    labels = [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2]
    write_shard(root / "data/train-00000-of-00002.parquet", jpegs[:7], labels[:7], row_group_size=3)
    write_shard(root / "data/train-00001-of-00002.parquet", jpegs[7:], labels[7:], row_group_size=2)
    write_shard(root / "data/validation-00000-of-00001.parquet", jpegs[:3], [0, 1, 2])
    (root / "README.md").write_text("a set")
    return root


def payloads(path):
    with BetonFile(path) as file:
        return [bytes(file.payload(index)) for index in range(len(file))]


def found(source, split=None, classes=None):
    with open_source(source, split, classes) as opened:
        return opened.contents


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
    monkeypatch.setattr("fastdc.beton.parquet._MAX_BATCH", batch)
    write_beton(hub, tmp_path / "x.beton", split="train")
    assert payloads(tmp_path / "x.beton") == jpegs


def test_some_rows_in_any_order(hub, jpegs):
    with open_source(hub, "train") as opened:
        asked = [list(opened.contents.paths())[row] for row in (9, 2, 2, 0)]
        got = {number: fetch() for number, fetch in opened.files.fetch_all(asked)}
    assert got == {0: jpegs[9], 1: jpegs[2], 2: jpegs[2], 3: jpegs[0]}


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_splits_have_the_aliases_of_folders(hub, split):
    assert len(found(hub, split).items) == 3


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
    chosen = sorted({id.rpartition(":")[0] for id in found(tmp_path, split).items.ids})
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
    assert len(found(shard).items) == len(found(shard, "train").items) == 7
    with pytest.raises(SourceError, match="is of the split 'train', but the split 'val' was asked for"):
        found(shard, "val")


def test_image_folders_with_a_stray_parquet_file_stay_image_folders(folder, jpegs):
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


def test_class_id_goes_before_label(tmp_path, jpegs):
    table = pa.table({"label": ["x", "y"], "image": jpegs[:2], "class_id": [1, 0]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [item.label for item in found(tmp_path).items] == [1, 0]


def test_numbered_classes_sort_as_their_numbers(tmp_path, jpegs):
    labels = list(range(12))
    manifest = write_beton(write_shard(tmp_path / "x.parquet", jpegs, labels), tmp_path / "x.beton")
    assert manifest.classes == tuple(f"{label:02d}" for label in range(12))
    assert manifest.made["class_names"] == "numbers"


def test_the_hubs_names_keep_their_order(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], [1, 0], names=["zebra", "ant", "bee"])
    manifest = write_beton(source, tmp_path / "x.beton")
    assert (manifest.classes, manifest.counts) == (("zebra", "ant", "bee"), (1, 1, 0))
    assert manifest.made["class_names"] == "hub"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_names(tmp_path, jpegs, kind):
    for number, labels in enumerate([["dog", "cat"], ["ant", "dog"]]):
        column = pa.array(labels, pa.string()).cast(kind)
        write_shard(tmp_path / f"{number}.parquet", jpegs[2 * number : 2 * number + 2], column)
    contents = found(tmp_path)
    assert contents.classes == ("ant", "cat", "dog")
    assert [item.label for item in contents.items] == [2, 1, 0, 2]
    assert [item.label for item in found(tmp_path, classes=("dog", "cat", "ant")).items] == [0, 1, 2, 0]


@pytest.mark.parametrize("form", ["beton", "json", "txt"])
def test_classes_are_named_by_another_file(hub, folder, tmp_path, form):
    write_beton(folder, tmp_path / "val.beton")
    (tmp_path / "val.txt").write_text("class_0\nclass_1\nclass_2\n")
    manifest = write_beton(hub, tmp_path / "x.beton", split="train", classes=tmp_path / f"val.{form}")
    assert manifest.classes == ("class_0", "class_1", "class_2")
    assert manifest.made["class_names"] == "given"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a\n\nb\n", "line 2 is empty"),
        ("a\nb\na\n", "lines 1 and 3 are both 'a'"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_class_files_that_cannot_be_used(hub, tmp_path, text, words):
    (tmp_path / "names.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=words):
        found(hub, "train", tmp_path / "names.txt")


def test_classes_belong_to_parquet_and_are_never_written_over(hub, folder, tmp_path):
    out = tmp_path / "val.beton"
    write_beton(folder, out)
    with pytest.raises(ConfigError, match="--classes names the classes of parquet shards"):
        write_beton(folder, tmp_path / "x.beton", classes=out)
    with pytest.raises(OutputError, match="is an input"):
        write_beton(hub, out, split="train", classes=out, force=True)
    with pytest.raises(SourceError, match=r"nowhere.beton: does not exist; expected a .beton"):
        write_beton(hub, tmp_path / "x.beton", split="train", classes=tmp_path / "nowhere.beton")


BAD_LABELS = [([0, -1, 1], "label -1, expected 0..1"), ([0, None, 1], "no label .null."), ([0, 5, 1], "label 5, exp")]


@pytest.mark.parametrize(("labels", "words"), BAD_LABELS)
def test_bad_labels_stop_at_once_or_are_skipped(tmp_path, jpegs, labels, words):
    source = write_shard(tmp_path / "x.parquet", [*jpegs[:2], None], labels, names=["a", "b"])
    with pytest.raises(SourceError, match=rf"x.parquet:1: {words}.*--on-error skip"):
        write_beton(source, tmp_path / "x.beton")
    manifest = write_beton(
        write_shard(tmp_path / "x.parquet", jpegs[:3], labels, names=["a", "b"]), tmp_path / "x.beton", on_error="skip"
    )
    assert [(item.path, item.kind) for item in manifest.skipped] == [("x.parquet:1", "unreadable")]
    assert payloads(tmp_path / "x.beton") == [jpegs[0], jpegs[2]]


def test_unknown_names_are_bad_labels(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], ["a", "q"])
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(SourceError, match=r"x.parquet:1: label 'q' is not one of the 2 classes"):
        write_beton(source, tmp_path / "x.beton", classes=tmp_path / "names.txt")


def test_labels_too_large_to_be_numbers_of_classes_are_refused(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], [0, 4_000_000])
    with pytest.raises(SourceError, match=r"x.parquet:1: label 4000000 in 2 rows, expected less than 1,000"):
        found(source)


def test_no_usable_label_at_all(tmp_path, jpegs):
    with pytest.raises(SourceError, match=r"no row with a usable label; the first, x.parquet:0: label -1"):
        found(write_shard(tmp_path / "x.parquet", jpegs[:2], [-1, -1], names=["a"]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "no image bytes .null."),
        ({"bytes": None, "path": "a.jpg"}, "no image bytes .null."),
        (b"", "empty file"),
        (b"<html>", "no known image format"),
    ],
)
def test_rows_without_a_readable_image(tmp_path, jpegs, image, words):
    source = write_shard(tmp_path / "x.parquet", [jpegs[0], image, jpegs[2]], [0, 0, 1])
    with pytest.raises(SourceError, match=f"x.parquet:1: .*{words}"):
        write_beton(source, tmp_path / "x.beton")
    manifest = write_beton(source, tmp_path / "x.beton", on_error="skip")
    assert [item.path for item in manifest.skipped] == ["x.parquet:1"]
    assert payloads(tmp_path / "x.beton") == [jpegs[0], jpegs[2]]


def test_a_class_that_loses_all_its_images_is_an_error_one_that_had_none_is_not(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", [jpegs[0], b"junk"], [0, 1], names=["a", "b", "c"])
    with pytest.raises(SourceError, match="class 'b': none of its 1 images can be read"):
        write_beton(source, tmp_path / "x.beton", on_error="skip")


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
        (("picture", "label"), None, [0, 1], r"no image column \(image or img\); it has picture, label"),
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


def test_files_that_are_no_whole_shards(hub, tmp_path):
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


def test_empty_shards(tmp_path, jpegs):
    write_shard(tmp_path / "0.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(SourceError, match="no row with a usable label; they have no rows"):
        found(tmp_path)
    write_shard(tmp_path / "1.parquet", jpegs[:2], [0, 1])
    assert [item.id for item in found(tmp_path).items] == ["1.parquet:0", "1.parquet:1"]


def test_without_pyarrow_the_error_says_how_to_get_it(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"needs pyarrow, .*pip install 'fastdc\[hf\]'"):
        found(hub, "train")


def test_folders_of_images_need_no_pyarrow(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert write_beton(folder, tmp_path / "x.beton").counts == (4, 4, 4)


def test_labels_of_a_stretch_of_rows(hub):
    items = found(hub, "train").items
    assert items.labels(3, 5).tolist() == [items.label(number) for number in range(3, 8)] == [1, 0, 2, 2, 0]


def test_given_names_are_matched_with_the_hubs_by_name(tmp_path, jpegs):
    write_shard(tmp_path / "a.parquet", jpegs[:4], [0, 1, 1, 5], names=("zebra", "apple", "fig"))
    with open_source(tmp_path, None, ("apple", "fig", "zebra")) as opened:
        assert opened.contents.classes == ("apple", "fig", "zebra")
        assert [item.label for item in opened.contents.items] == [2, 0, 0, -1]
        assert opened.made["class_names"] == "given"


def test_names_in_other_words_go_by_position_with_a_note(tmp_path, jpegs, capsys):
    write_shard(tmp_path / "a.parquet", jpegs[:3], [0, 1, 1], names=("tench", "goldfish"))
    with open_source(tmp_path, None, ("n01440764", "n01443537")) as opened:
        assert [item.label for item in opened.contents.items] == [0, 1, 1]
        assert opened.made["class_names"] == "given, by position"
    assert "shares no name with the shards; 'tench' becomes 'n01440764', and so on" in capsys.readouterr().err


def test_hub_names_that_repeat_stay_two_classes(tmp_path, jpegs):
    """ImageNet has two classes called crane."""
    write_shard(tmp_path / "a.parquet", jpegs[:3], [0, 1, 2], names=("crane", "owl", "crane"))
    assert [item.label for item in found(tmp_path).items] == [0, 1, 2]
    assert [item.label for item in found(tmp_path, classes=("crane", "owl", "crane")).items] == [0, 1, 2]
    with pytest.raises(SourceError, match="names 'crane' as the shards do, but not every class so, once"):
        found(tmp_path, classes=("crane", "crane", "owl"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("cat", "ant"), "names 'cat' as the shards do, but not every class so"),
        (("a",), "2 classes, but --classes names 1"),
    ],
)
def test_given_names_that_fit_the_hubs_only_partly_are_refused(tmp_path, jpegs, given, words):
    write_shard(tmp_path / "a.parquet", jpegs[:2], [0, 1], names=("dog", "cat"))
    with pytest.raises(SourceError, match=words):
        found(tmp_path, classes=given)


def test_a_shard_that_is_replaced_after_its_labels_were_read(hub, jpegs, tmp_path):
    shard = hub / "data/train-00000-of-00002.parquet"
    with open_source(hub, "train") as opened:
        new = write_shard(tmp_path / "new", jpegs[:7][::-1], [0, 1, 2, 0, 1, 2, 0], row_group_size=3)
        new.replace(shard)
        with pytest.raises(SourceError, match=r"train-00000-of-00002\.parquet: changed while it was read"):
            write_beton(opened, tmp_path / "x.beton")
    assert not (tmp_path / "x.beton").exists()


def test_class_names_that_are_not_utf8(tmp_path, jpegs):
    bad = pa.array([b"ant", b"\xff\xfe"], pa.binary()).view(pa.string())
    table = pa.table({"image": pa.array(jpegs[:2], pa.binary()), "label": bad})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="column 'label' cannot be read"):
        found(tmp_path)


def test_a_column_called_like_a_part_of_another(tmp_path, jpegs):
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


def test_pictures_beside_the_shards_of_a_repository_are_none_of_its_images(hub, jpegs):
    for name in ("assets/a.jpg", "docs/b.jpg"):
        (hub / name).parent.mkdir()
        (hub / name).write_bytes(jpegs[0])
    assert len(found(hub, "train").items) == 12
