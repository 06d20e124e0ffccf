"""Lists of kept images: written and read again, and those of other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastdc.beton import Manifest, Skipped
from fastdc.beton.manifest import INFERRED
from fastdc.common.errors import ConfigError, MethodError
from fastdc.subsets.list_files import Combined
from fastdc.subsets.list_scores import TrainingLists
from fastdc.subsets.lists import list_path, read_list, write_list
from tests.subsets.animals import LABELS, animals


@pytest.fixture
def manifest() -> Manifest:
    return animals()


def read(tmp_path: Path, manifest: Manifest, text: str) -> list[int]:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return read_list(path, manifest, LABELS).sources.ravel().tolist()


@pytest.mark.parametrize("scored", [True, False])
def test_lists_round_trip(tmp_path: Path, manifest: Manifest, scored: bool) -> None:
    path = list_path(tmp_path / "kept.beton")
    assert path == tmp_path / "kept.list.tsv"
    write_list(path, manifest, LABELS, [4, 1, 2], np.arange(5) / 3 if scored else None)
    assert read_list(path, manifest, LABELS).sources.tolist() == [[4], [1], [2]]
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# id\tclass\tscore", "owl/x.jpg\towl\t" + ("1.33333333" if scored else "")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4\n0\n2\n", [4, 0, 2]),
        ("index,label\n3,1\n", [3]),
        ("/data/animals/train/dog/2.jpg dog\nx\\cat\\1.jpg\n", [3, 0]),
        ("2.jpg\nx.jpg\n", [3, 4]),
        ("# made by hand\n\ncat/with blank.jpg\tcat\n", [1]),
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
        (
            "dog/1.jpg cat\n",
            r"'dog/1\.jpg' is listed as class 'cat', its class in the training set is 'dog' \(1\)",
        ),
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
def test_invalid_lines_are_refused_with_their_number(tmp_path: Path, manifest: Manifest, text: str, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        read(tmp_path, manifest, text)


def test_names_with_special_characters_round_trip(tmp_path: Path, manifest: Manifest) -> None:
    ids = ("#1/a\tb.jpg", " x\n.jpg", "c\u2028\x85d ", "id", "\\udcff\\e.jpg")
    odd = manifest.model_copy(update={"ids": ids, "classes": ("a\tb", "# c", " ")})
    path = tmp_path / "list.tsv"
    write_list(path, odd, LABELS, [3, 0, 4, 2, 1], None)
    assert read_list(path, odd, LABELS).sources.ravel().tolist() == [3, 0, 4, 2, 1]


def test_numeric_ids_are_no_indices(tmp_path: Path, manifest: Manifest) -> None:
    numbered = manifest.model_copy(update={"ids": ("4", "3", "2", "1", "0")})
    assert read(tmp_path, numbered, "4\n0\n") == [0, 4]


def test_an_id_of_several_images_is_ambiguous(tmp_path: Path, manifest: Manifest) -> None:
    twice = manifest.model_copy(update={"ids": ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "a.jpg")})
    with pytest.raises(MethodError, match=r":2: several images are called 'a\.jpg'"):
        read(tmp_path, twice, "b.jpg\na.jpg\n")


def test_other_files_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    binary = tmp_path / "x.beton"
    binary.write_bytes(b"\xff\xd8\x00")
    for path in (binary, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="expected a text file with one image id per line"):
            read_list(path, manifest, LABELS)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_indices_may_come_from_numpy(tmp_path: Path, manifest: Manifest, dtype: type) -> None:
    np.save(tmp_path / "kept.npy", np.array([3, 0], dtype))
    assert read_list(tmp_path / "kept.npy", manifest, LABELS).sources.tolist() == [[3], [0]]
    numbered = manifest.model_copy(update={"ids": ("4", "3", "2", "1", "0")})
    assert read_list(tmp_path / "kept.npy", numbered, LABELS).sources.tolist() == [[3], [0]]


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        (np.array([0, 5]), MethodError, r"kept\.npy\[1\]: image 5 does not exist, expected 0\.\.4"),
        (np.array([0, -1]), MethodError, r"kept\.npy\[1\]: index -1, expected 0 or more"),
        (np.array([1, 0, 1]), MethodError, r"kept\.npy\[2\]: '1' was named in entry 0 already"),
        (np.array([], np.int64), MethodError, "holds no images"),
        (np.zeros(5, bool), MethodError, "holds no images, expected a mask that is true for the kept images"),
        (np.array([True, False]), MethodError, r"holds a mask of 2, the training set has 5 images"),
        (np.array([0.0, 1.0]), ConfigError, r"holds float64 \[2\], expected indices"),
        (np.array([[0, 1]]), ConfigError, r"holds int64 \[1, 2\], expected indices"),
        (np.array([{}], object), ConfigError, r"kept\.npy: cannot be read \(no plain numpy array\)"),
    ],
)
def test_numpy_files_without_indices(
    tmp_path: Path, manifest: Manifest, values: NDArray[Any], error: type[Exception], match: str
) -> None:
    np.save(tmp_path / "kept.npy", values)
    with pytest.raises(error, match=match):
        read_list(tmp_path / "kept.npy", manifest, LABELS)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"0\n1\n", b"PK\x03\x04"])
def test_damaged_numpy_files(tmp_path: Path, manifest: Manifest, data: bytes) -> None:
    (tmp_path / "kept.npy").write_bytes(data)
    with pytest.raises(ConfigError, match=r"kept\.npy: cannot be read"):
        read_list(tmp_path / "kept.npy", manifest, LABELS)
    with pytest.raises(ConfigError, match="No such file"):
        read_list(tmp_path / "gone.npy", manifest, LABELS)


WRITTEN = {"tool": "fastdc write-beton"}
LOST = (Skipped(path="cat/2.jpg", reason="cut off"),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order": "own", "made": WRITTEN}, "hidden images, litter or linked folders were left out"),
        ({"order": "own"}, "do not come from class folders"),
        ({"order": "own", "made": WRITTEN, "skipped": LOST}, r"1 images were skipped, such as cat/2\.jpg"),
        ({"order": None, "made": WRITTEN, "skipped": LOST}, "1 images were skipped"),
        ({"order": None, "made": {**WRITTEN, "selection": 3}}, "only some classes"),
        ({"order": None, "made": {"tool": INFERRED}}, "its manifest is missing"),
        ({"order": None, "made": WRITTEN, "ids": ("a/1.jpg", "a/2.gif", "b/1.jpg", "b/2.jpg", "c/1.jpg")}, r"a/2\.gif"),
        ({"order": None, "made": WRITTEN, "ids": ("a/b/1.jpg", "a/z.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg")}, "another"),
    ],
)
def test_indices_on_another_order_need_a_setting(
    tmp_path: Path, manifest: Manifest, changes: dict[str, Any], reason: str
) -> None:
    other = manifest.model_copy(update=changes)
    with pytest.raises(MethodError, match=rf"list\.txt: holds indices, .*{reason}.*--index-order own"):
        read(tmp_path, other, "3\n0\n")
    assert read_list(tmp_path / "list.txt", other, LABELS, "own").sources.tolist() == [[3], [0]]
    ids = [other.ids[index] for index in (3, 0)]
    assert read(tmp_path, other, "\n".join(ids)) == [3, 0]  # names are unambiguous


def test_indices_on_an_older_beton_get_a_note(
    tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    older = manifest.model_copy(update={"order": None, "made": WRITTEN})
    assert read(tmp_path, older, "3\n0\n") == [3, 0]
    assert "did not record the order of images" in capsys.readouterr().err
    assert read(tmp_path, manifest, "3\n0\n") == [3, 0]
    assert capsys.readouterr().err == ""


def mosaic_list(tmp_path: Path, manifest: Manifest, kept: list[int]) -> Path:
    """Write a list of stored images made of two images; `grid` is None, because no grid has two tiles."""
    combined = Combined(method="theirs", tiles=2, grid=None, fit=None, image_size=28, hints={"tile_grid": 2})
    path = tmp_path / "x.list.tsv"
    write_list(path, manifest, LABELS, kept, None, combined)
    return path


def test_a_ranking_names_a_repeated_image_with_its_own_count(tmp_path: Path, manifest: Manifest) -> None:
    path = mosaic_list(tmp_path, manifest, [0, 1, 0, 1, 1, 0, 1, 0, 1, 1])  # one image 4 times, the other 6
    with pytest.raises(MethodError, match=r"names image 'cat/1.jpg' 4 times; name each image once"):
        TrainingLists(manifest, LABELS).images(path)


def test_a_list_of_mosaics_keeps_its_groups(tmp_path: Path, manifest: Manifest) -> None:
    path = mosaic_list(tmp_path, manifest, [3, 2, 1, 0])
    head, titles, first, *_ = path.read_text().splitlines()
    assert head.startswith("# fastdc-list 2 {")
    assert (titles, first) == ("# id\tclass\tscore\timage", "dog/2.jpg\tdog\t\t0")
    found = read_list(path, manifest, LABELS)
    assert found.sources.tolist() == [[3, 2], [1, 0]]
    assert found.combined is not None
    assert found.combined.hints == {"tile_grid": 2}
    with pytest.raises(MethodError, match="method theirs made each stored image of 2 images, and does not record how"):
        found.combined.mosaic(path)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda rows: rows[:-1], MethodError, "stored image 1 has 1 lines, expected 2"),
        (lambda rows: [*rows[:3], *rows[4:]], MethodError, "stored image 0 has 1 lines, expected 2"),
        (lambda rows: [*rows[:2], rows[2], rows[4], rows[3], rows[5]], MethodError, "stored image 0 has 2 lines"),
        (lambda rows: [row.replace("\t0", "\t1") for row in rows], MethodError, "stored image 1 has 4 lines"),
        (lambda rows: ["# fastdc-list 2", *rows[1:]], ConfigError, r"x\.list\.tsv:1: "),
        (lambda rows: ["# fastdc-list", *rows[1:]], ConfigError, ":1: is a list of version unknown"),
        (
            lambda rows: [rows[0], *(row.rpartition("\t")[0] for row in rows[1:])],
            MethodError,
            "'' in the fourth column",
        ),
        (lambda rows: [rows[0].replace("list 2", "list 3"), *rows[1:]], ConfigError, ":1: is a list of version 3"),
        (lambda rows: [rows[0].replace('"tiles":2', '"tiles":0'), *rows[1:]], ConfigError, ":1: tiles=0"),
        (lambda rows: [rows[0].replace('"grid":null', '"grid":2'), *rows[1:]], ConfigError, ":1: tiles=2"),
        (lambda rows: [rows[0][:-1], *rows[1:]], ConfigError, ":1: "),
    ],
)
def test_lists_of_mosaics_that_were_changed_are_refused(
    tmp_path: Path,
    manifest: Manifest,
    change: Callable[[list[str]], list[str]],
    error: type[Exception],
    match: str,
) -> None:
    path = mosaic_list(tmp_path, manifest, [3, 2, 1, 0])
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(error, match=match):
        read_list(path, manifest, LABELS)


def test_a_mosaic_is_of_one_class(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(MethodError, match="stored image 1 is of several classes"):
        read_list(mosaic_list(tmp_path, manifest, [3, 2, 1, 4]), manifest, LABELS)


def test_names_of_stored_mosaics_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(MethodError, match=r":1: image 'cat/1\.jpg\+dog/1\.jpg' is made of 2 images"):
        read(tmp_path, manifest, "cat/1.jpg+dog/1.jpg\n")
