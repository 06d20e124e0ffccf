"""Files read and hashed by compiled code, up to the first that is not an ordinary one."""

import hashlib
import os

import numpy as np
import pytest

from fastdc.beton.sources.reading_ahead import choose_reading
from fastdc.kernels.files.whole_files import HASH_BYTES, read_files


@pytest.fixture(scope="module")
def library():
    reading = choose_reading(10**6)
    if reading is None:
        pytest.skip("no statx, or no OpenSSL")
    return reading._library


def read(library, paths, room=1 << 16):
    """Return what was read: bytes and hash of each file, up to the first that was not."""
    names = [os.fsencode(path) + b"\0" for path in paths]
    starts = np.cumsum([0, *map(len, names)])[:-1]
    out, ends = np.zeros(room, np.uint8), np.empty(len(names), np.int64)
    hashes = np.empty((len(names), HASH_BYTES), np.uint8)
    count = read_files(library, np.frombuffer(b"".join(names), np.uint8), starts, out, ends, hashes)
    bounds = [0, *ends[:count].tolist()]
    return [(out[bounds[n] : bounds[n + 1]].tobytes(), hashes[n].tobytes()) for n in range(count)]


def write(folder, *contents):
    paths = [folder / f"{number} ä.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_files_are_read_whole_and_hashed(library, tmp_path):
    contents = [np.random.default_rng(size).bytes(size) for size in (1, 63, 64, 5000, 20_000)]
    paths = write(tmp_path, *contents)
    assert read(library, paths) == [(each, hashlib.sha256(each).digest()) for each in contents]


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "fifo", "dangling", "forbidden", "device"])
def test_the_first_other_file_ends_the_reading(library, tmp_path, kind):
    first, middle, last = write(tmp_path, b"one", b"two", b"three")
    middle.unlink()
    if kind == "empty":
        middle.touch()
    elif kind == "folder":
        middle.mkdir()
    elif kind == "fifo":
        os.mkfifo(middle)
    elif kind == "dangling":
        middle.symlink_to("nowhere")
    elif kind == "device":
        middle.symlink_to("/dev/zero")
    elif kind == "forbidden":
        middle.write_bytes(b"two")
        middle.chmod(0)
        if os.access(middle, os.R_OK):
            pytest.skip("this user may read everything")
    assert [data for data, _ in read(library, [first, middle, last])] == [b"one"]


def test_a_file_that_does_not_fit_ends_the_reading(library, tmp_path):
    paths = write(tmp_path, bytes(60), bytes(50), bytes(30))
    assert [len(data) for data, _ in read(library, paths, room=100)] == [60]
    assert [len(data) for data, _ in read(library, paths, room=110)] == [60, 50]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_stays_open(library, tmp_path):
    paths = write(tmp_path, b"one", b"")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read(library, [*paths, tmp_path])
    assert len(os.listdir("/proc/self/fd")) == before
