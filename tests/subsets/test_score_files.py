"""Files of scores: every format gives the same scores, and invalid values are refused with their place."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.beton import Manifest
from fastdc.common.errors import ConfigError, MethodError
from fastdc.subsets.score_files import read_scores
from tests.subsets.animals import IDS, LABELS, animals

SCORES = [0.5, -1.25, 3.0, 1e-9, 2.0]
PLAIN = animals()


def read(path: Path, manifest: Manifest = PLAIN, **options: Any) -> list[float]:
    values, _ = read_scores(path, manifest, LABELS, **options)
    assert values.dtype == np.float64
    return values.tolist()


def lines(*rows: tuple[object, ...], sep: str = ",") -> str:
    return "".join(sep.join(map(str, row)) + "\n" for row in rows)


def numpy_file(path: Path) -> None:
    np.save(path, np.array(SCORES))


def parquet_file(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"path": IDS[::-1], "el2n": SCORES[::-1], "extra": [None] * 5}), path)


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = content.encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)

    return write


PAIRS = tuple(zip(IDS, SCORES, strict=True))
BACK = PAIRS[::-1]
FORMS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "npy": ("s.npy", numpy_file),
    "savetxt": ("s.txt", lambda path: np.savetxt(path, SCORES)),
    "savetxt with indices": ("s.txt", lambda path: np.savetxt(path, list(enumerate(SCORES)))),
    "csv": ("s.csv", text(lines(*BACK))),
    "csv with a header": ("s.csv", text(lines(("id", "el2n"), *BACK))),
    "csv of indices": ("s.csv", text(lines(("Index", "el2n"), *enumerate(SCORES)))),
    "csv of paths and classes": (
        "s.csv",
        text(
            lines(("path", "label", "s"), *((f"/data/{n}", int(c), s) for (n, s), c in zip(PAIRS, LABELS, strict=True)))
        ),
    ),
    "csv of pandas": ("s.csv", text(lines(("", "path", "el2n"), *((i, *pair) for i, pair in enumerate(BACK))))),
    "csv with quotes": ("s.csv", text('id,el2n\n"' + '\n"'.join(f'{name}",{score}' for name, score in PAIRS) + "\n")),
    "csv of scores alone": ("s.csv", text(lines(("el2n",), *((score,) for score in SCORES)))),
    "csv.gz": ("s.csv.gz", text(lines(("id", "el2n"), *BACK))),
    "tsv": ("s.tsv", text(lines(*PAIRS, sep="\t"))),
    "list of fastdc": ("s.list.tsv", text(lines(*((name, "", score) for name, score in BACK), sep="\t"))),
    "json list": ("s.json", text(json.dumps(SCORES))),
    "json by id": ("s.json", text(json.dumps(dict(BACK)))),
    "json by index": ("s.json", text(json.dumps(dict(enumerate(SCORES))))),
    "json by name": ("s.json", text(json.dumps({"el2n": SCORES}))),
    "json records": ("s.json", text(json.dumps([{"id": name, "el2n": score} for name, score in BACK]))),
    "parquet": ("s.parquet", parquet_file),
    "ccs": (
        "s.pickle",
        lambda path: path.write_bytes(pickle.dumps({"el2n": torch.tensor(SCORES, dtype=torch.float64)})),
    ),
    "pickled array": ("s.pkl", lambda path: path.write_bytes(pickle.dumps(np.array(SCORES)))),
    "deepcore": ("s.ckpt", lambda path: torch.save({"subset": {"indices": [1], "scores": np.array(SCORES)}}, path)),
    "torch": ("s.pth", lambda path: torch.save(torch.tensor(SCORES, dtype=torch.float64), path)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_scores(tmp_path: Path, form: str) -> None:
    name, write = FORMS[form]
    write(tmp_path / name)
    options = {"name": "el2n"} if form == "parquet" else {}
    assert read(tmp_path / name, **options) == SCORES
    assert read(tmp_path / name, high="easy", **options) == [-score for score in SCORES]


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("s.csv", lines(*PAIRS[:4]), MethodError, r"has a score for 4 of 5 training images, 'owl/x\.jpg' is missing"),
        ("s.csv", lines(*PAIRS, PAIRS[0]), MethodError, r"s\.csv:6: 'cat/1\.jpg' was named in line 1 already"),
        ("s.csv", lines(*PAIRS[:4], ("owl/y.jpg", 1)), MethodError, r":5: image 'owl/y\.jpg' is not in the training"),
        ("s.csv", lines(*PAIRS[:4], (IDS[4], "nan")), MethodError, r":5: score 'nan', expected a finite number"),
        ("s.csv", lines(("id", "s"), *PAIRS[:4], (IDS[4], "inf")), MethodError, r":6: score 'inf', .* in column 's'"),
        ("s.csv", lines(("id", "s"), *PAIRS[:4], (IDS[4], "")), MethodError, r":6: score '', expected a finite number"),
        ("s.csv", lines(("id", "s"), (*PAIRS[0], 1)), MethodError, r":2: has 3 cells, expected 2 as in the header"),
        ("s.csv", lines(("id", "a", "b"), *((*p, 1) for p in PAIRS)), ConfigError, "holds 2 scores: a, b; .*--score a"),
        (
            "s.csv",
            lines(("id", "class"), *((n, "cat") for n in IDS)),
            ConfigError,
            "has the columns id, class, expected",
        ),
        (
            "s.csv",
            lines(("id", "class", "s"), *((name, "cat", 1) for name in IDS)),
            MethodError,
            r":4: image 'dog/1\.jpg' is listed as class 'cat'",
        ),
        ("s.csv", lines(("id", "s", "s"), *((*p, 1) for p in PAIRS)), ConfigError, "has 2 columns 's', expected one"),
        ("s.csv", "0.5\n1\n2\n", MethodError, r"holds float64 \[3\], expected numbers \[5\]"),
        ("s.txt", "0.5\n1\n2\nnan\n3\n", MethodError, r"s\.txt:4: score nan, expected a finite number"),
        ("s.csv", "", MethodError, "has a score for 0 of 5 training images"),
        ("s.json", "[1, 2", ConfigError, r"s\.json: is no JSON"),
        ("s.json", "[" * 100000, ConfigError, r"s\.json: is no JSON"),
        ("s.json", '{"cat/1.jpg": 1, "cat/1.jpg": 2}', ConfigError, r"has the key 'cat/1\.jpg' twice"),
        ("s.json", '[1, 2, 3, 4, "x"]', ConfigError, "holds a list of 5, expected a number for every training image"),
        ("s.json", "[1, 2, 3, 4, NaN]", MethodError, r"s\.json\[4\]: score nan, expected a finite number"),
        ("s.json", "[]", MethodError, r"holds float64 \[0\], expected numbers \[5\]"),
        ("s.json", '{"cat/1.jpg": null}', ConfigError, "holds a mapping of cat/1.jpg, expected"),
        ("s.json", '[{"id": "a", "s": 1}, {"id": "b"}]', ConfigError, "its records have different keys"),
        ("s.parquet", "PAR1 no", ConfigError, r"s\.parquet: cannot be read \(no complete parquet file"),
        (
            "s.csv.gz",
            "no gzip",
            ConfigError,
            r"s\.csv\.gz: cannot be read \(no complete gzip file of UTF-8 text\), expected a number for every",
        ),
        ("s.npy", "\x93NUMPY", ConfigError, r"s\.npy: cannot be read \(no plain numpy array\)"),
    ],
)
def test_invalid_values_are_refused_with_their_place(
    tmp_path: Path, name: str, content: str, error: type[Exception], match: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(error, match=match):
        read(tmp_path / name)


def test_a_name_chooses_among_scores(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(lines(("id", "class", "el2n", "AUM"), *((name, "", 1.0, score) for name, score in PAIRS)))
    assert read(path, name="AUM", high="easy") == [-score for score in SCORES]
    with pytest.raises(MethodError, match=r"score 'AUM' is low for hard images as published.*--high easy"):
        read(path, name="AUM")
    with pytest.raises(ConfigError, match="has no score 'el2'; did you mean 'el2n'"):
        read(path, name="el2")
    np.save(tmp_path / "s.npy", SCORES)
    with pytest.raises(ConfigError, match="has no titles, so no score 'el2n'"):
        read(tmp_path / "s.npy", name="el2n")


def test_scores_by_index_need_imagefolders_order(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", SCORES)
    own = PLAIN.model_copy(update={"order": "own"})
    with pytest.raises(MethodError, match=r"holds scores by index, but .* are not numbered as .*--index-order own"):
        read(tmp_path / "s.npy", own)
    assert read(tmp_path / "s.npy", own, index_order="own") == SCORES


def test_classes_beside_scores_by_index_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"targets": LABELS.tolist(), "el2n": SCORES}))
    assert read(path) == SCORES
    path.write_text(json.dumps({"targets": [0, 1, 0, 1, 2], "el2n": SCORES}))
    with pytest.raises(
        MethodError, match=r"s\.json\[1\]: image '1' is listed as class '1', its class .* is 'cat' \(0\)"
    ):
        read(path)


def test_a_header_that_claims_more_than_the_file_allocates_nothing(tmp_path: Path) -> None:
    with (tmp_path / "s.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**10,)})
        file.write(b"12345678")
    stated = r"its header states \[10000000000\] of float64, 80,000,000,000 bytes, but 8 follow; get it again"
    with pytest.raises(ConfigError, match=stated):
        read(tmp_path / "s.npy")
