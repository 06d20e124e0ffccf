"""Lists in the formats of other programs: each names the same images, and malformed ones are refused."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ConfigError, MethodError
from fastdc.subsets import parquet_tables
from fastdc.subsets.lists import read_list
from tests.subsets.animals import IDS, LABELS, animals

KEPT = [1, 2, 4]
NAMES = [IDS[index] for index in KEPT]
MASK = np.isin(np.arange(5), KEPT)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def values(value: Any) -> Callable[[Path], None]:
    """Return a function that writes a value as other programs write files of the path's suffix."""

    def write(path: Path) -> None:
        if path.suffix == ".json":
            path.write_text(json.dumps(value))
        elif path.suffix == ".npy":
            np.save(path, value)
        elif path.suffix == ".pickle":
            path.write_bytes(pickle.dumps(value))
        else:
            torch.save(value, path)

    return write


def parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": NAMES, "label": [0, 1, 2]}), path)


def nulls(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": [*NAMES[:2], None], "label": ["cat", None, "owl"]}), path)


def no_text(path: Path) -> None:
    """Write ids that are not UTF-8."""
    parquet(path)
    path.write_bytes(path.read_bytes().replace(NAMES[0].encode(), b"\xff" * len(NAMES[0])))


def damaged_header(path: Path) -> None:
    np.save(path, np.array(KEPT))
    path.write_bytes(path.read_bytes().replace(b", }", b"(  "))


DEEPCORE = {"exp": 0, "epoch": 200, "best_acc1": 9.5, "subset": {"indices": np.array(KEPT), "scores": np.ones(5)}}
FORMS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "text ids": ("k.txt", text("".join(f"{name}\n" for name in NAMES))),
    "text paths": (
        "k.txt",
        text("".join(f"/data/{name}\t{label}\n" for name, label in zip(NAMES, range(3), strict=True))),
    ),
    "npy indices": ("k.npy", values(np.array(KEPT))),
    "npy mask": ("k.npy", values(MASK)),
    "savetxt": ("k.txt", lambda path: np.savetxt(path, KEPT)),
    "savetxt of whole numbers": ("k.txt", lambda path: np.savetxt(path, KEPT, fmt="%.1f")),
    "csv of ids and classes": ("k.csv", text(f"class,id\ncat,{NAMES[0]}\ndog,{NAMES[1]}\nowl,{NAMES[2]}\n")),
    "csv of paths": ("k.csv", text("Path,split\n" + "".join(f"/data/train/{name},train\n" for name in NAMES))),
    "csv of indices": ("k.csv", text("score,index\n" + "".join(f"0.5,{index}\n" for index in KEPT))),
    "csv with quotes": ("k.csv", text("file_name,label\n" + "".join(f'"{name}",""\n' for name in NAMES))),
    "csv.gz": (
        "k.csv.gz",
        lambda path: path.write_bytes(gzip.compress(f"id\n{NAMES[0]}\n{NAMES[1]}\n{NAMES[2]}\n".encode())),
    ),
    "parquet": ("k.parquet", parquet),
    "json ids": ("k.json", values(NAMES)),
    "json indices": ("k.json", values(KEPT)),
    "json paths": ("k.json", values([f"./train/{name}" for name in NAMES])),
    "json mask": ("k.json", values(MASK.tolist())),
    "json classes": ("k.json", values({"cat": NAMES[:1], "dog": NAMES[1:2], "owl": NAMES[2:]})),
    "json class numbers": ("k.json", values({"0": KEPT[:1], "1": KEPT[1:2], "2": KEPT[2:]})),
    "json indices by name": ("k.json", values({"seed": 3, "indices": KEPT})),
    "deepcore": ("k.ckpt", values(DEEPCORE)),
    "deepcore subset": ("k.pth", values(DEEPCORE["subset"])),
    "torch indices": ("k.pt", values(torch.tensor(KEPT))),
    "torch mask": ("k.pth", values(torch.tensor(MASK))),
    "pickled indices": ("k.pickle", values(np.array(KEPT))),
    "pickled list": ("k.pickle", values([np.int64(index) for index in KEPT])),
    "pickled coreset": ("k.pickle", values({"coreset_index": torch.tensor(KEPT)})),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_names_the_same_images(tmp_path: Path, form: str) -> None:
    name, write = FORMS[form]
    write(tmp_path / name)
    assert read_list(tmp_path / name, animals(), LABELS).sources.ravel().tolist() == KEPT


SCORES = [0.5, 1.5, 2.0]


@pytest.mark.parametrize(
    ("name", "write", "error", "match"),
    [
        ("k.npy", values(np.array([1, 5])), MethodError, r"k\.npy\[1\]: image 5 does not exist, expected 0\.\.4"),
        ("k.npy", values(MASK[:4]), MethodError, "holds a mask of 4, the training set has 5 images"),
        (
            "k.npy",
            values(np.array(SCORES)),
            ConfigError,
            r"holds float64 \[3\], .* scores, take fastdc compress from-sc",
        ),
        ("k.npy", values(MASK[None]), ConfigError, r"holds bool \[1, 5\], expected indices"),
        ("k.txt", lambda path: np.savetxt(path, SCORES), MethodError, r":1: index 5\.0+e-01, expected a whole number"),
        ("k.txt", lambda path: np.savetxt(path, [7.0]), MethodError, r":1: image 7 does not exist"),
        ("k.csv", text("id,class\ncat/1.jpg\n"), MethodError, r"k\.csv:2: has 1 cells, expected 2 as in the header"),
        ("k.csv", text("id,class\ncat/1.jpg,dog\n"), MethodError, r":2: image 'cat/1\.jpg' is listed as class 'dog'"),
        ("k.csv", text("id,class\n,dog\n"), MethodError, r":2: names no image"),
        ("k.csv", text(f"id\n{'9' * 200000},\n"), MethodError, r"k\.csv:2: is not a line of a CSV file \(field larger"),
        ("k.json", values(["cat/1.jpg", 3]), ConfigError, "holds a list of 2, expected indices"),
        (
            "k.json",
            values({"cat": ["dog/1.jpg"]}),
            MethodError,
            r"cat\[0\]: image 'dog/1\.jpg' is listed as class 'cat'",
        ),
        ("k.json", values({"wolf": [0]}), MethodError, r"listed as class 'wolf', its class .* is 'cat'"),
        ("k.json", values({"cat": [True, False]}), ConfigError, "holds a mapping of cat, and one is a mask"),
        ("k.json", values({"cat/1.jpg": 0.5}), ConfigError, "holds a mapping of cat/1.jpg, expected indices"),
        ("k.json", values(["cat/1.jpg", "cat/1.jpg"]), MethodError, r"k\.json\[1\]: .* was named in entry 0 already"),
        ("k.json", values([]), MethodError, "holds no images"),
        ("k.json", values([-1]), MethodError, r"k\.json\[0\]: index -1, expected 0 or more"),
        ("k.json", values([2**70]), MethodError, r"k\.json\[0\]: image 1180591620717411303424 does not exist"),
        (
            "k.pth",
            values({"subset": {"weights": [0.5]}}),
            ConfigError,
            r"weights: holds float64 \[1\], expected indices",
        ),
        ("k.pth", values({"subset": {"indices": 3}}), ConfigError, "subset: indices: holds a int, expected indices"),
        (
            "k.pickle",
            values({"el2n": np.ones(5)}),
            ConfigError,
            "el2n: holds float64.*take fastdc compress from-scores",
        ),
        ("k.pickle", values({"coreset": {1, 2}}), ConfigError, "coreset: holds a set, expected indices"),
        ("k.pickle", values(Path("x")), ConfigError, r"names pathlib\.\w*\.?PosixPath, which fastdc does not load"),
        ("k.parquet", text("PAR1"), ConfigError, r"k\.parquet: cannot be read \(no complete parquet file"),
        ("k.parquet", nulls, MethodError, r"k\.parquet\[2\]: names no image"),
        ("k.parquet", no_text, ConfigError, r"k\.parquet: cannot be read \(no complete parquet file"),
        ("k.npy", damaged_header, ConfigError, r"k\.npy: cannot be read \(no plain numpy array\)"),
        ("k.json", values({}), ConfigError, "holds a mapping of nothing, expected indices"),
    ],
)
def test_malformed_lists_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], None], error: type[Exception], match: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(error, match=match):
        read_list(tmp_path / name, animals(), LABELS)


def test_a_parquet_file_without_ids_is_no_list(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"el2n": SCORES}), tmp_path / "k.parquet")
    with pytest.raises(ConfigError, match="has the columns el2n, expected one of id, path"):
        read_list(tmp_path / "k.parquet", animals(), LABELS)


def test_images_of_a_parquet_file_are_not_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": b"x", "path": name} for name in NAMES]
    columns = {"image": images, "file_name": pyarrow.array(NAMES).dictionary_encode(), "label": [0, 1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "k.parquet")
    assert read_list(tmp_path / "k.parquet", animals(), LABELS).sources.ravel().tolist() == KEPT


def test_a_parquet_file_of_too_many_rows_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_tables, "MAX_ROWS", 2)
    parquet(tmp_path / "k.parquet")
    with pytest.raises(ConfigError, match=r"k\.parquet: has 3 rows, expected at most 2"):
        read_list(tmp_path / "k.parquet", animals(), LABELS)


def test_class_numbers_beside_numeric_ids_are_no_indices(tmp_path: Path) -> None:
    numbered = animals().model_copy(update={"ids": ("4", "3", "2", "1", "0")})
    (tmp_path / "k.json").write_text('["4", "0"]')
    assert read_list(tmp_path / "k.json", numbered, LABELS).sources.ravel().tolist() == [0, 4]
    (tmp_path / "k.json").write_text("[4, 0]")
    assert read_list(tmp_path / "k.json", numbered, LABELS).sources.ravel().tolist() == [4, 0]
