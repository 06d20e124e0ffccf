"""Labels of rows: one rule for tables, shards and arrays."""

import numpy as np
import pytest

from fastdc.beton import write_beton
from fastdc.common.errors import SourceError
from tests.beton.sources.test_webdataset import samples, write_tar

NAMES = ("ant", "bee", "cow")


def table(folder, images, labels):
    rows = "".join(f"{number}.jpg,{label}\n" for number, label in enumerate(labels))
    for number, image in enumerate(images):
        (folder / f"{number}.jpg").write_bytes(image)
    (folder / "labels.csv").write_text(f"file,label\n{rows}")
    return folder


def parquet(folder, images, labels):
    pytest.importorskip("pyarrow")
    from tests.beton.hub_shards import write_shard

    return write_shard(folder / "x.parquet", images, labels)


def webdataset(folder, images, labels):
    return write_tar(folder / "x.tar", samples(images, labels))


def arrays(folder, images, labels):
    pixels = np.zeros((len(images), 8, 8, 3), np.uint8)
    np.savez(folder / "x.npz", images=pixels, labels=np.array(labels))
    return folder / "x.npz"


@pytest.fixture
def write(tmp_path, jpegs):
    """Write a source of a kind with the given labels, and the beton with the names of three classes."""

    def convert(kind, labels, **options):
        (tmp_path / "set").mkdir()
        (tmp_path / "names.txt").write_text("\n".join(NAMES))
        source = kind(tmp_path / "set", jpegs[: len(labels)], labels)
        return write_beton(source, tmp_path / "x.beton", classes=tmp_path / "names.txt", **options)

    return convert


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("kind", [table, parquet, webdataset, arrays])
def test_labels_that_count_from_one_are_refused_even_if_errors_are_skipped(write, tmp_path, kind, on_error):
    words = r"labels run from 1 to 3 for 3 classes, expected 0 to 2; they count from 1: subtract 1 from each label"
    with pytest.raises(SourceError, match=words) as caught:
        write(kind, [3, 1, 2, 1], on_error=on_error)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("labels", [[1, 3, 0, 2], [1, 4, 2, 2]])
def test_a_single_wrong_label_is_left_out(write, labels):
    made = write(arrays, labels, on_error="skip", allow_missing_classes=True)
    assert [item.path for item in made.skipped] == ["images:1"]


def test_labels_that_are_names_of_classes_may_be_the_numbers_from_one(tmp_path, jpegs):
    (tmp_path / "set").mkdir()
    (tmp_path / "names.txt").write_text("1\n2\n3\n")
    source = table(tmp_path / "set", jpegs[:3], [3, 1, 2])
    assert write_beton(source, tmp_path / "x.beton", classes=tmp_path / "names.txt").counts == (1, 1, 1)


@pytest.mark.parametrize("kind", [table, parquet, webdataset])
def test_whole_numbers_as_fractions_are_refused(tmp_path, jpegs, kind):
    """As texts they would sort as 0.0, 1.0, 10.0, 11.0, 2.0, and so renumber the classes."""
    source = kind(tmp_path, jpegs, [f"{label}.0" for label in range(12)])
    with pytest.raises(SourceError, match=r"labels are fractions such as 0\.0; write whole numbers, or names"):
        write_beton(source, tmp_path / "out.beton")
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("kind", [table, parquet, webdataset])
def test_numbers_that_are_written_as_texts_sort_as_numbers(tmp_path, jpegs, kind):
    source = kind(tmp_path, jpegs, [str(label) for label in range(12)])
    manifest = write_beton(source, tmp_path / "out.beton")
    assert manifest.classes == tuple(f"{label:02d}" for label in range(12))
    assert manifest.made["class_names"] == "numbers"


@pytest.mark.parametrize("kind", [table, parquet, webdataset])
def test_numbers_that_name_the_given_classes_are_names(tmp_path, jpegs, kind):
    (tmp_path / "versions.txt").write_text("2.0\n1.0\n")
    source = kind(tmp_path, jpegs[:3], ["1.0", "2.0", "1.0"])
    manifest = write_beton(source, tmp_path / "out.beton", classes=tmp_path / "versions.txt")
    assert (manifest.classes, manifest.counts) == (("2.0", "1.0"), (1, 2))


@pytest.mark.parametrize("kind", [table, parquet, webdataset])
def test_another_split_of_twelve_numbered_classes_matches_the_first(tmp_path, jpegs, kind):
    """The classes are named 00 to 11, so that only some of the numbers look like names."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    write_beton(kind(tmp_path / "train", jpegs, [str(label) for label in range(12)]), tmp_path / "train.beton")
    source = kind(tmp_path / "val", jpegs[:4], ["0", "10", "2", "11"])
    made = write_beton(source, tmp_path / "val.beton", classes=tmp_path / "train.beton", allow_missing_classes=True)
    assert [label for label, count in enumerate(made.counts) if count] == [0, 2, 10, 11]


@pytest.mark.parametrize("labels", [["007", "7", "01"], ["01440764", "01443537"], ["1", "2", "3"], ["-1", "0", "1"]])
def test_texts_of_a_parquet_column_that_do_not_count_the_classes_are_names(tmp_path, jpegs, labels):
    made = write_beton(parquet(tmp_path, jpegs[: len(labels)], labels), tmp_path / "out.beton")
    assert made.classes == tuple(sorted(labels))
    assert made.counts == (1,) * len(labels)
