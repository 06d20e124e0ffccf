"""Lists of kept images: read back what was written, and what other programs write."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import Manifest
from fastdc.errors import ConfigError, MethodError
from fastdc.lists import list_path, read_list, write_list

LABELS = np.array([0, 0, 1, 1, 2], np.int64)
IDS = ("cat/1.jpg", "cat/with blank.jpg", "dog/1.jpg", "dog/2.jpg", "owl/x.jpg")


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        dataset="animals",
        split="train",
        classes=("cat", "dog", "owl"),
        counts=(2, 2, 1),
        ids=IDS,
        hashes=("0",) * 5,
        source="x",
        made={},
        converted={},
        skipped=(),
        hints={},
        image_bytes=5,
        content_hash="0",
        file_bytes=5,
        structure_hash="0",
    )


def read(tmp_path: Path, manifest: Manifest, text: str) -> list[int]:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return read_list(path, manifest, LABELS).tolist()


@pytest.mark.parametrize("scored", [True, False])
def test_what_is_written_is_read_back(tmp_path: Path, manifest: Manifest, scored: bool) -> None:
    path = list_path(tmp_path / "kept.beton")
    assert path == tmp_path / "kept.list.tsv"
    write_list(path, manifest, LABELS, [4, 1, 2], np.arange(5) / 3 if scored else None)
    assert read_list(path, manifest, LABELS).tolist() == [4, 1, 2]
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# id\tclass\tscore", "owl/x.jpg\towl\t" + ("1.33333333" if scored else "")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4\n0\n2\n", [4, 0, 2]),
        ("index,label\n3,1\n", [3]),
        ("/data/animals/train/dog/2.jpg dog\nx\\cat\\1.jpg\n", [3, 0]),
        ("2.jpg\nx.jpg\n", [3, 4]),
        ("# made by somebody\n\ncat/with blank.jpg\tcat\n", [1]),
        ("dog/1.jpg 1\nowl/x.jpg,2", [2, 4]),
        ("\ufeffdog/1.jpg\tdog\r\nowl/x.jpg\r\n", [2, 4]),
        ("cat/with blank.jpg\ndog/1.jpg\n", [1, 2]),
        ("cat/with blank.jpg,cat\n", [1]),
    ],
    ids=[
        "numbers",
        "title",
        "paths",
        "file names",
        "blank in a name",
        "numbers for classes",
        "written on Windows",
        "blank without a tab",
        "blank before a comma",
    ],
)
def test_lists_of_other_programs(tmp_path: Path, manifest: Manifest, text: str, expected: list[int]) -> None:
    assert read(tmp_path, manifest, text) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("dog/1.jpg\ndog/9.jpg\n", r"list\.txt:2: image 'dog/9\.jpg' is not in the training set"),
        ("dog/1.jpg\n\n/elsewhere/dog/1.jpg\n", r":3: '/elsewhere/dog/1\.jpg' was named in line 1 already"),
        ("1.jpg\n", r":1: several images are called '1\.jpg'; give the class folder too"),
        ("dog/1.jpg cat\n", r":1: image 'dog/1\.jpg' is listed as class 'cat', the training set says 'dog' \(1\)"),
        ("dog/1.jpg 0\n", "listed as class '0'"),
        ("7\n", r":1: image 7 does not exist, expected 0\.\.4"),
        ("# nothing\n", "holds no images"),
        ("", "holds no images"),
        ("dog/1.jpg\n\tdog\n", r":2: names no image"),
        ("wolf/x.jpg\n", r":1: image 'wolf/x\.jpg' is not in the training set"),
        ("9" * 5000, "is not in the training set"),
        ("dog/1.jpg " + "9" * 5000, "listed as class"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, manifest: Manifest, text: str, match: str
) -> None:
    with pytest.raises(MethodError, match=match):
        read(tmp_path, manifest, text)


def test_names_that_would_break_a_list_are_read_back(tmp_path: Path, manifest: Manifest) -> None:
    ids = ("#1/a\tb.jpg", " x\n.jpg", "c\u2028\x85d ", "id", "\\udcff\\e.jpg")
    odd = manifest.model_copy(update={"ids": ids, "classes": ("a\tb", "# c", " ")})
    path = tmp_path / "list.tsv"
    write_list(path, odd, LABELS, [3, 0, 4, 2, 1], None)
    assert read_list(path, odd, LABELS).tolist() == [3, 0, 4, 2, 1]


def test_numbers_that_are_ids_are_no_indices(tmp_path: Path, manifest: Manifest) -> None:
    numbered = manifest.model_copy(update={"ids": ("4", "3", "2", "1", "0")})
    assert read(tmp_path, numbered, "4\n0\n") == [0, 4]


def test_an_id_of_several_images_is_ambiguous(tmp_path: Path, manifest: Manifest) -> None:
    twice = manifest.model_copy(update={"ids": ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "a.jpg")})
    with pytest.raises(MethodError, match=r":2: several images are called 'a\.jpg'"):
        read(tmp_path, twice, "b.jpg\na.jpg\n")


def test_what_is_no_list_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    binary = tmp_path / "x.beton"
    binary.write_bytes(b"\xff\xd8\x00")
    for path in (binary, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="expected a text file with one image id per line"):
            read_list(path, manifest, LABELS)
