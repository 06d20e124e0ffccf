"""Folders that `save_to_disk` of Hugging Face `datasets` wrote."""

import json
import shutil

import pytest

from fastdc.beton import BetonFile, write_beton
from fastdc.beton.sources.open_source import open_source, source_of
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.errors import SourceError

pa = pytest.importorskip("pyarrow")

from tests.beton.hub_shards import STRUCT, payloads  # noqa: E402  after the check for pyarrow


def save(
    folder, images, labels, *, kind=STRUCT, names=("ant", "bee", "cat"), shards=1, rows=2, columns=("img", "label")
):
    """Write what `datasets.Dataset.save_to_disk` writes: streams of batches of `rows` rows, and two JSON files."""
    folder.mkdir(parents=True)
    files = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    images = [{"bytes": data, "path": None} for data in images] if kind == STRUCT else images
    table = pa.table(dict(zip(columns, [pa.array(images, kind), pa.array(labels)], strict=True)))
    size = -(-len(images) // shards)
    for number, name in enumerate(files):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(number * size, size), max_chunksize=rows)
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": list(names or ()), "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features if names else {}}))
    state = {"_data_files": [{"filename": name} for name in files], "_fingerprint": "ab", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def saved(tmp_path, jpegs):
    """Save a Dataset of twelve images in two files of several batches."""
    return save(tmp_path / "saved", jpegs, [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2], shards=2)


@pytest.fixture
def splits(tmp_path, jpegs):
    """Save a DatasetDict of two splits."""
    save(tmp_path / "dict" / "train", jpegs[:6], [0, 1, 2, 0, 1, 2])
    save(tmp_path / "dict" / "validation", jpegs[6:9], [2, 1, 0])
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return tmp_path / "dict"


def test_bytes_labels_and_names_are_those_of_the_rows(saved, jpegs, tmp_path):
    made = write_beton(saved, tmp_path / "x.beton")
    assert payloads(tmp_path / "x.beton") == jpegs
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.labels.tolist() == [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2]
    assert (made.classes, made.made["class_names"]) == (("ant", "bee", "cat"), "hub")
    assert (made.ids[0], made.ids[-1]) == ("data-00000-of-00002.arrow:0", "data-00001-of-00002.arrow:5")
    assert made.made["columns"] == ["img", "label"]


def test_splits_of_a_dict(splits, jpegs, tmp_path):
    made = write_beton(splits, tmp_path / "x.beton", split="val")
    assert payloads(tmp_path / "x.beton") == jpegs[6:9]
    assert (made.dataset, made.counts) == ("dict", (1, 1, 1))
    assert made.ids[0] == "validation/data-00000-of-00001.arrow:0"
    with pytest.raises(SourceError, match="has the splits train, validation; choose one with --split"):
        write_beton(splits, tmp_path / "y.beton")
    with pytest.raises(SourceError, match="has no split 'test'; it has train, validation"):
        write_beton(splits, tmp_path / "y.beton", split="test")
    with pytest.raises(SourceError, match="names no split, but the requested split is 'train'; omit --split"):
        write_beton(splits / "train", tmp_path / "y.beton", split="train")


def test_given_names_and_columns(tmp_path, jpegs):
    folder = save(tmp_path / "s", jpegs[:3], [0, 1, 1], names=None, columns=("photo", "kind"))
    (tmp_path / "names.txt").write_text("x\ny\n")
    made = write_beton(
        folder, tmp_path / "x.beton", classes=tmp_path / "names.txt", image_column="photo", label_column="kind"
    )
    assert (made.classes, made.counts) == (("x", "y"), (1, 2))


def test_labels_that_are_names(tmp_path, jpegs):
    folder = save(tmp_path / "s", jpegs[:3], ["owl", "ant", "owl"], names=None, kind=pa.binary())
    assert write_beton(folder, tmp_path / "x.beton").counts == (1, 2)


def test_memory_does_not_grow_with_the_file(tmp_path):
    folder = save(tmp_path / "s", [bytes(1 << 20)] * 32, [0, 1] * 16, rows=32)
    before = pa.total_allocated_bytes()
    with open_source(folder, SourceOptions()) as opened:
        for _, fetch in opened.files.fetch_all(opened.contents.paths()):
            assert len(fetch()) == 1 << 20
            assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_damaged_stream_is_refused(saved, tmp_path):
    path = saved / "data-00001-of-00002.arrow"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 : len(whole) // 2 + 600] = b"\xff" * 600
    for data, message in (
        (whole[: len(whole) // 2], "lacks the end mark of an Arrow stream, so it is cut off: get it again"),
        (whole[:-8], "lacks the end mark"),
        (b"", "lacks the end mark"),
        (whole[: len(whole) // 2] + whole[-8:], "cannot be read|damaged after row"),
        (bytes(flipped), "damaged|cannot be read|not a JPEG|not an image|JPEG"),
    ):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=message) as caught:
            write_beton(saved, tmp_path / "x.beton")
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(
        SourceError, match=r"1 of the 2 files that it lists missing, the first is data-00001.*copy the whole"
    ):
        write_beton(saved, tmp_path / "x.beton")
    assert not list(tmp_path.glob("x.*"))


def test_offsets_outside_a_column_are_damage(tmp_path):
    """Arrow trusts the offsets of a stream; unchecked, these read memory outside the file."""
    folder = save(tmp_path / "s", [b"x" * 100] * 4, [0, 1, 0, 1], kind=pa.binary(), rows=4)
    path = folder / "data-00000-of-00001.arrow"
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 100, 200, 300, 400))
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:16] + (1 << 30).to_bytes(4, "little")))
    with pytest.raises(SourceError, match="damaged after row 0"):
        write_beton(folder, tmp_path / "x.beton")


WRONG = [
    ("state.json", "{", "state.json: cannot be read as JSON"),
    ("state.json", "[" * 100_000, "state.json: cannot be read as JSON"),
    ("state.json", "[]", "state.json: expected an object"),
    ("state.json", "{}", "lists no files"),
    (
        "state.json",
        '{"_data_files": [{"filename": "../x.arrow"}]}',
        r"names '\.\./x.arrow', expected the name of a file",
    ),
    ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}', "names '/etc/passwd'"),
    ("state.json", '{"_data_files": ["x"]}', "names None"),
    ("state.json", '{"_data_files": 3}', "lists no files"),
    ("state.json", '{"_indices_data_files": [{"filename": "i.arrow"}]}', "flatten_indices.*save_to_disk"),
    ("dataset_info.json", "[", "dataset_info.json: cannot be read as JSON"),
    ("dataset_dict.json", '{"splits": ["../train"]}', r"names '\.\./train', expected the name of a file or folder"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_files_beside_the_stream_that_cannot_be_used(saved, tmp_path, name, text, message):
    (saved / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        write_beton(saved, tmp_path / "x.beton", split="train" if "dict" in name else None)
    assert not list(tmp_path.glob("x.*"))


def test_wrong_columns_labels_and_counts(saved, tmp_path, jpegs):
    with pytest.raises(SourceError, match="no column 'pixels', which --image-column names; it has img, label"):
        write_beton(saved, tmp_path / "x.beton", image_column="pixels")
    (tmp_path / "names.txt").write_text("x\ny\n")
    with pytest.raises(SourceError, match="3 classes, but --classes names 2; name all of them"):
        write_beton(saved, tmp_path / "x.beton", classes=tmp_path / "names.txt")
    folder = save(tmp_path / "s", jpegs[:2], [0, 9])
    with pytest.raises(SourceError, match=r"data-00000-of-00001.arrow:1: label 9, expected 0..2"):
        write_beton(folder, tmp_path / "x.beton")


def test_a_file_that_changes_after_its_labels_were_read(saved, tmp_path):
    with open_source(saved, SourceOptions()) as opened:
        shutil.copy(saved / "data-00000-of-00002.arrow", tmp_path / "new")
        (tmp_path / "new").replace(saved / "data-00000-of-00002.arrow")
        with pytest.raises(SourceError, match="changed while it was read; run again"):
            write_beton(opened, tmp_path / "x.beton")


def test_an_image_folder_may_hold_a_file_of_that_name(folder):
    (folder / "state.json").write_text("{}")
    assert source_of(folder).name == "folder"


def test_a_column_whose_name_is_damaged(saved, tmp_path):
    path = saved / "data-00000-of-00002.arrow"
    path.write_bytes(path.read_bytes().replace(b"label", b"\xff\xfe\xfd\xfc\xfb", 1))
    with pytest.raises(SourceError, match=r"cannot be read as an Arrow stream .* it may be cut off: get it again"):
        write_beton(saved, tmp_path / "x.beton")
