"""Reads by descriptor in compiled code: all bytes, or False."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from fastdc.kernels.files.pread import read_at
from fastdc.loader.descriptor import pread_address


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    return path


@pytest.mark.parametrize(("start", "length"), [(0, 100), (3, 10), (99, 1), (100, 0), (5, 0)])
def test_bytes_inside_the_file_are_read(content: Path, start: int, length: int) -> None:
    out = np.full(length, 255, np.uint8)
    with content.open("rb") as file:
        assert read_at(np.array([pread_address(), file.fileno()]), start, out)
    assert out.tolist() == list(range(start, start + length))


@pytest.mark.parametrize(("start", "length"), [(0, 101), (99, 2), (100, 1), (10**12, 1), (-1, 1)])
def test_bytes_outside_the_file_are_refused(content: Path, start: int, length: int) -> None:
    with content.open("rb") as file:
        assert not read_at(np.array([pread_address(), file.fileno()]), start, np.zeros(length, np.uint8))


def test_a_descriptor_that_is_not_open_is_refused(content: Path) -> None:
    with content.open("rb") as file:
        reader = np.array([pread_address(), file.fileno()])
    assert not read_at(reader, 0, np.zeros(10, np.uint8))


def test_an_interrupted_read_is_tried_again(content: Path) -> None:
    calls = []

    def interrupted(descriptor: int, out: int, size: int, start: int) -> int:
        """Read like pread, but fail before every read, and read at most 30 bytes."""
        calls.append(size)
        if len(calls) % 2:
            return -1
        data = os.pread(descriptor, min(size, 30), start)
        ctypes.memmove(out, data, len(data))
        return len(data)

    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function = kind(interrupted)
    address = ctypes.cast(function, ctypes.c_void_p).value
    out = np.zeros(100, np.uint8)
    with content.open("rb") as file:
        assert read_at(np.array([address, file.fileno()]), 0, out)
    assert out.tolist() == list(range(100))
    assert len(calls) == 8
