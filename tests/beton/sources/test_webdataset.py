"""Tars of WebDataset samples as a source."""

import json
import os
import tarfile
import tracemalloc

import pytest

from fastdc.beton import BetonFile, verify_beton, write_beton
from fastdc.beton.sources.open_source import open_source, source_of
from fastdc.common.tars import add_file
from tests.beton.conftest import refused
from tests.beton.hub_shards import payloads


def write_tar(path, files, mode="w"):
    """Write a tar of `files`, pairs of name and content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in files:
            add_file(archive, name, data)
    return path


def samples(images, labels, start=0, suffix="cls"):
    """Return the files of samples, an image and a label each."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True), start):
        yield f"{number:06d}.jpg", image
        yield f"{number:06d}.{suffix}", str(label).encode()


@pytest.fixture
def shards(tmp_path, jpegs):
    """Write training in two shards and validation in one; labels 0..2."""
    root = tmp_path / "shards"
    write_tar(root / "train-0000.tar", samples(jpegs[:6], [2, 0, 1, 1, 0, 2]))
    write_tar(root / "train-0001.tar", samples(jpegs[6:], [2, 0, 1, 1, 0, 2], 6))
    write_tar(root / "val-0000.tar", samples(jpegs[:3], [0, 1, 2]))
    return root


def labels_of(path):
    with BetonFile(path) as beton:
        return beton.labels.tolist()


def test_shards_keep_their_bytes_and_order(shards, tmp_path, jpegs):
    out = tmp_path / "train.beton"
    manifest = write_beton(shards, out, split="train")
    assert payloads(out) == jpegs
    assert labels_of(out) == [2, 0, 1, 1, 0, 2] * 2
    assert (manifest.classes, manifest.dataset, manifest.split) == (("0", "1", "2"), "shards", "train")
    assert (manifest.ids[0], manifest.ids[11]) == ("train-0000.tar:000000.jpg", "train-0001.tar:000011.jpg")
    assert (manifest.made["labels"], manifest.made["class_names"]) == (["cls"], "numbers")
    assert not verify_beton(out, deep=True)
    refused(tmp_path, shards, "has the splits train, val; choose one with --split")


@pytest.mark.parametrize("pattern", ["train-{0000..0001}.tar", "train-000{0..1}.tar"])
def test_a_pattern_expands_to_its_shards(shards, tmp_path, jpegs, pattern):
    manifest = write_beton(shards / pattern, tmp_path / "out.beton")
    assert payloads(tmp_path / "out.beton") == jpegs
    assert manifest.dataset == "shards"
    refused(
        tmp_path, shards / "train-{0000..0002}.tar", "train-0002.tar does not exist, of 3 shards; get it, or correct"
    )
    refused(tmp_path, shards / "train-{0003..0001}.tar", "runs from 3 to 1, expected at most")
    refused(tmp_path, shards / "{0..1}-{0..1}.tar", "expected one pattern of numbers")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz"])
def test_one_shard_plain_or_compressed(tmp_path, jpegs, kind):
    path = write_tar(tmp_path / f"set.{kind}", samples(jpegs, [0, 1] * 6), "w" if kind == "tar" else "w:gz")
    manifest = write_beton(path, tmp_path / "out.beton")
    assert payloads(tmp_path / "out.beton") == jpegs
    assert manifest.dataset == "set"
    with open_source(path) as opened:
        wanted = [opened.contents.ids[row] for row in (5, 1, 5, 0)]
        got = dict(opened.files.fetch_all(wanted))
    assert [got[number]() for number in range(4)] == [jpegs[row] for row in (5, 1, 5, 0)]


@pytest.mark.parametrize(
    ("suffix", "texts"),
    [
        ("cls", ["1", " 0\n"]),
        ("json", ['{"label": 1, "caption": "x"}', '{"label": "0"}']),
        ("json", ['{"class_id": 1}', '{"cls": 0}']),
        ("cls.txt", ["1", "0"]),
    ],
)
def test_labels_of_every_kind(tmp_path, jpegs, suffix, texts):
    path = write_tar(tmp_path / "set.tar", samples(jpegs[:2], texts, suffix=suffix))
    write_beton(path, tmp_path / "out.beton")
    assert labels_of(tmp_path / "out.beton") == [1, 0]


def test_names_are_classes_and_can_be_ordered(tmp_path, jpegs, capsys):
    path = write_tar(tmp_path / "set.tar", samples(jpegs[:4], ["cat", "ant", "bee", "ant"], suffix="cls.txt"))
    assert write_beton(path, tmp_path / "out.beton").classes == ("ant", "bee", "cat")
    assert labels_of(tmp_path / "out.beton") == [2, 0, 1, 0]
    (tmp_path / "names.txt").write_text("cat\nbee\nant\n")
    write_beton(path, tmp_path / "out.beton", classes=tmp_path / "names.txt", force=True)
    assert labels_of(tmp_path / "out.beton") == [0, 2, 1, 2]
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    refused(tmp_path, path, "000000.jpg: label 'cat' is not one of the 2 classes", classes=tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "ant\nbee\ncow\n"),
        ("dataset.json", json.dumps({"name": "x", "classes": ["ant", "bee", "cow"]})),
    ],
)
def test_class_names_beside_the_shards(shards, tmp_path, name, content):
    (shards / name).write_text(content)
    manifest = write_beton(shards, tmp_path / "out.beton", split="val")
    assert (manifest.classes, manifest.made["class_names"]) == (("ant", "bee", "cow"), "source")
    (shards / name).write_text("")
    refused(tmp_path, shards, f"{name}: (is empty|cannot be read as JSON)", split="val")


def test_other_files_of_samples_and_outside_paths_are_ignored(tmp_path, jpegs):
    files = [
        ("__index__.json", b"{}"),
        ("../../etc/passwd.jpg", jpegs[0]),
        (".hidden/1.jpg", jpegs[0]),
        ("readme.txt", b"about"),
        ("./a/0.seg.png", b"mask"),
        ("./a/0.jpg", jpegs[0]),
        ("./a/0.cls", b"0"),
        ("./a/0.json", b'{"label": 9}'),
        ("./a/1.input.jpg", jpegs[1]),
        ("./a/1.cls", b"1"),
    ]
    manifest = write_beton(write_tar(tmp_path / "set.tar", files), tmp_path / "out.beton")
    assert payloads(tmp_path / "out.beton") == jpegs[:2]
    assert tuple(manifest.ids) == ("set.tar:a/0.jpg", "set.tar:a/1.input.jpg")
    assert labels_of(tmp_path / "out.beton") == [0, 1]


def test_a_tar_of_class_folders_is_not_webdataset(tmp_path, jpegs):
    files = [(f"{name}/{number}.{kind}", data) for name in ("ant", "bee") for number, image in enumerate(jpegs[:2])
             for kind, data in (("jpg", image), ("json", b'{"label": 1}'))]  # fmt: skip
    path = write_tar(tmp_path / "set.tar", files)
    assert source_of(path).name == "archive"
    assert write_beton(path, tmp_path / "out.beton").classes == ("ant", "bee")
    flat = write_tar(tmp_path / "flat.tar", [(f"{number}.jpg", image) for number, image in enumerate(jpegs)])
    refused(tmp_path, flat, "12 images lie directly in it")


GOOD = [("a.jpg", None), ("a.cls", b"0"), ("b.jpg", None), ("b.cls", b"1")]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("c.jpg", None)], "c.jpg: a sample of jpg: no label that can be read, expected an image and .cls or .json"),
        ([("c.cls", b"1")], "set.tar:c: a sample of cls: no image, expected"),
        ([("c.jpg", None), ("c.png", None), ("c.cls", b"1")], "c: a sample of cls, jpg, png: several images"),
        ([("c.jpg", None), ("c.json", b'{"label": [1]}')], "a sample of jpg, json: no label that can be read"),
        ([("c.jpg", None), ("c.json", b"[" * 100_000)], "a sample of jpg, json: no label that can be read"),
        ([("c.jpg", None), ("c.cls", b"-1")], r"c.jpg: label -1, expected 0\.\.1"),
        ([("c.jpg", None), ("c.cls", b"\xff\x00")], "a sample of cls, jpg: no label that can be read"),
        ([("c.jpg", b"no image"), ("c.cls", b"1")], "set.tar:c.jpg: cannot be decoded"),
    ],
)
def test_a_bad_sample_is_named_and_can_be_skipped(tmp_path, jpegs, files, words):
    files = [(name, jpegs[0] if data is None else data) for name, data in (*GOOD, *files)]
    path = write_tar(tmp_path / "set.tar", files)
    refused(tmp_path, path, words)
    manifest = write_beton(path, tmp_path / "out.beton", on_error="skip")
    assert (manifest.counts, len(manifest.skipped)) == ((1, 1), 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("c.jpg", None), ("c.cls", b"5000")], "label 5000 in 3 rows, expected less than 1,000; name the classes"),
        (
            [("c.jpg", None), ("c.cls", b"cat")],
            "sample 'c' has the label 'cat', but those before have numbers; use one",
        ),
        ([("a.jpg", None), ("a.cls", b"0")], "key 'a' is twice in set.tar, expected one sample per key"),
    ],
)
def test_wrong_sets(tmp_path, jpegs, files, words):
    files = [(name, jpegs[0] if data is None else data) for name, data in (*GOOD, *files)]
    refused(tmp_path, write_tar(tmp_path / "set.tar", files), words)


def test_label_out_of_range_of_the_given_classes(shards, tmp_path):
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    words = r"train-0000.tar:000000.jpg: label 2, expected 0\.\.1; correct or remove it"
    refused(tmp_path, shards, words, split="train", classes=tmp_path / "names.txt")


def test_a_key_in_two_shards(shards, tmp_path, jpegs):
    write_tar(shards / "train-0002.tar", samples(jpegs[:1], [1], 4))
    words = "key '000004' is in train-0000.tar and in train-0002.tar, expected one sample per key"
    refused(tmp_path, shards, words, split="train")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_truncated_shard(tmp_path, jpegs, kind):
    root = tmp_path / "shards"
    for number in range(2):
        path = root / f"{number}.{kind}"
        write_tar(path, samples(jpegs[:6], [0, 1] * 3, 6 * number), "w" if kind == "tar" else "w:gz")
    size = path.stat().st_size
    for share in (0.7, 0.3):
        os.truncate(path, int(size * share))
        refused(tmp_path, root, f"1.{kind}: is truncated or damaged after sample .*; get the shard again")
    path.write_bytes(b"")
    refused(tmp_path, root, f"1.{kind}: is truncated or damaged at its start")


def test_memory_holds_only_ids_and_numbers(tmp_path, jpegs):
    count = 2_000
    path = write_tar(tmp_path / "set.tar", samples(jpegs[:1] * count, [0, 1] * (count // 2)))
    tracemalloc.start()
    with open_source(path) as opened:
        assert len(opened.contents.ids) == count
        assert tracemalloc.get_traced_memory()[1] < 400 * count
    tracemalloc.stop()


def test_a_hidden_file_or_a_damaged_shard_does_not_hide_the_others(shards, tmp_path, jpegs):
    (shards / "._train-0000.tar").write_bytes(b"\0\5\x16\7" * 1000)  # as macOS writes
    write_beton(shards, tmp_path / "train.beton", split="train")
    assert payloads(tmp_path / "train.beton") == jpegs
    (shards / "train-0000.tar").write_bytes(b"")
    refused(tmp_path, shards, "train-0000.tar: is truncated or damaged at its start", split="train")


def test_class_names_in_two_spellings_or_of_another_kind(tmp_path, jpegs):
    root = tmp_path / "set"
    write_tar(root / "a.tar", samples(jpegs[:2], [0, 1]))
    (tmp_path / "names.txt").write_text("dog\ncaf\u00e9\n")
    (root / "dataset.json").write_text(json.dumps({"classes": ["cafe\u0301", "dog"]}))
    made = write_beton(root, tmp_path / "out.beton", classes=tmp_path / "names.txt")
    assert (made.classes, labels_of(tmp_path / "out.beton")) == (("dog", "caf\u00e9"), [1, 0])
    (root / "dataset.json").write_text(json.dumps({"classes": [{"id": 0}, {"id": 1}]}))
    assert write_beton(root, tmp_path / "out.beton", force=True).classes == ("0", "1")


def test_pointers_of_git_lfs_are_named(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(2):
        (tmp_path / "set" / f"{number:04d}.tar").write_text("version https://git-lfs.github.com/spec/v1\noid 0\n")
    words = "0000.tar: is a Git LFS pointer, not the shard itself; run git lfs pull"
    refused(tmp_path, tmp_path / "set", words)
    refused(tmp_path, tmp_path / "set" / "0000.tar", words)
