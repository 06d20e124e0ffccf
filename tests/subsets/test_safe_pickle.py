"""Pickles and torch saves: plain arrays are read in every protocol, and no code of a file is run."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ConfigError
from fastdc.subsets.safe_pickle import read_pickle

INDICES = np.array([3, 0, 4])


def stored(path: Path, value: Any, protocol: int | None = None) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f2", "<i8", ">i4", "|b1", "|u1"])
def test_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int, kind: str) -> None:
    values = np.array([1, 0, 3, 200]).astype(kind)
    path = stored(tmp_path / "x.pickle", {"a": values, "plain": [1, "b", None, 2.5], "n": values[2]}, protocol)
    read = read_pickle(path, "scores")
    np.testing.assert_array_equal(read["a"], values)
    assert read["plain"] == [1, "b", None, 2.5]
    assert read["n"] == values[2]
    table = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(read_pickle(stored(path, table, protocol), "scores"), table)


def test_tensors_of_plain_pickles_are_read(tmp_path: Path) -> None:
    values = {"el2n": torch.arange(5.0), "targets": torch.arange(5, dtype=torch.int32), "part": torch.arange(9.0)[2:4]}
    read = read_pickle(stored(tmp_path / "data-score.pickle", values), "scores")
    assert {name: array.tolist() for name, array in read.items()} == {
        "el2n": [0, 1, 2, 3, 4],
        "targets": [0, 1, 2, 3, 4],
        "part": [2, 3],
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_torch_is_read(tmp_path: Path, zipped: bool) -> None:
    checkpoint = {
        "exp": 0,
        "state_dict": torch.nn.Linear(3, 2).state_dict(),
        "best_acc1": np.float64(50.5),
        "subset": {"indices": INDICES, "scores": np.ones(5, np.float32), "weights": torch.ones(3)},
        "sel_args": {"balance": True},
    }
    torch.save(checkpoint, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    read = read_pickle(tmp_path / "x.ckpt", "indices")["subset"]
    assert {name: array.tolist() for name, array in read.items()} == {
        "indices": INDICES.tolist(),
        "scores": [1] * 5,
        "weights": [1] * 3,
    }


class Code:
    """Run a command when unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def torch_saved(value: Any, zipped: bool = True) -> bytes:
    data = io.BytesIO()
    torch.save(value, data, _use_new_zipfile_serialization=zipped)
    return data.getvalue()


def compressed(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


COMMAND = Code(os.system, "touch RAN")
HOSTILE = {
    "command": (pickle.dumps(COMMAND), r"names posix\.system, which fastdc does not load"),
    "command in a list": (pickle.dumps([1, {"a": COMMAND}]), r"names posix\.system"),
    "expression": (pickle.dumps(Code(eval, "open('RAN', 'w')")), r"names builtins\.eval"),
    "attribute of numpy": (b"cnumpy\nload\n(S'x'\ntR.", r"names numpy\.load"),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", r"names numpy\.dtype\.__init__"),
    "changed function": (
        b"\x80\x02c_codecs\nencode\nN}X\x08\x00\x00\x00functionK\x01s\x86b.",
        "names a changed function",
    ),
    "array of objects": (pickle.dumps(np.array([{}], object)), "names an array of objects|values of type O8"),
    "array of pointers": (
        pickle.dumps(np.arange(3), 2).replace(b"i8", b"O8"),
        "names values of type O8",
    ),
    "data elsewhere": (b"Pnowhere\n.", "names data outside the file"),
    "memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "names a memo of 2147483647 values"),
    "10 GB of bytes": (b"\x80\x05\x96" + struct.pack("<Q", 10**10) + b"x.", r"cannot be read \(no complete pickle"),
    "10 GB of text": (b"\x80\x04\x8d" + struct.pack("<Q", 10**10) + b"x.", r"cannot be read \(no complete pickle"),
    "no pickle": (b"index,score\n", r"cannot be read \(no complete pickle"),
    "empty": (b"", r"cannot be read \(no complete pickle"),
    "code of torch.save": (torch_saved({"indices": COMMAND}), r"names posix\.system"),
    "class of torch.save": (torch_saved({"indices": Path("x")}), r"names pathlib\.\w*\.?PosixPath"),
    "code of an old torch": (torch_saved({"indices": COMMAND}, zipped=False), r"names posix\.system"),
    "compressed": (compressed(torch_saved(torch.zeros(10**6))), "names compressed parts"),
    "tensor larger than the file": (torch_saved(torch.zeros(1).expand(10**9)), r"names a tensor \[1000000000\]"),
    "damaged zip": (torch_saved(INDICES)[:-30], r"cannot be read \(no complete pickle: cut off, damaged, or another"),
    "cut": (pickle.dumps(np.arange(99))[:-40], r"cannot be read \(no complete pickle: cut off, damaged, or another"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_files_that_may_run_code_or_fill_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data, match = HOSTILE[what]
    Path("x.pth").write_bytes(data)
    with pytest.raises(ConfigError, match=match):
        read_pickle(Path("x.pth"), "indices")
    assert os.listdir() == ["x.pth"]


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_is_cut_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"a": INDICES, "t": torch.arange(3)}, protocol)
    for length in range(0, len(data), 7):
        (tmp_path / "x.pkl").write_bytes(data[:length])
        with pytest.raises(ConfigError, match=r"x\.pkl: (cannot be read|names)"):
            read_pickle(tmp_path / "x.pkl", "indices")


def test_a_missing_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\), expected indices"):
        read_pickle(tmp_path / "x.pkl", "indices")


def test_a_mapping_with_billions_of_references_is_read_once(tmp_path: Path) -> None:
    value: dict[str, Any] = {"el2n": [1.0]}
    for _ in range(40):
        value = {"a": value, "b": value}
    assert list(read_pickle(stored(tmp_path / "x.pickle", value), "scores")) == ["a", "b"]


def test_a_mapping_inside_itself_is_refused(tmp_path: Path) -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(ConfigError, match=r"cannot be read .*recursion"):
        read_pickle(stored(tmp_path / "x.pickle", value), "scores")
