"""Reading of a folder's files by compiled code: when it is chosen, and what it leaves to the files' own readers."""

import hashlib
import subprocess
import sys

import pytest

from fastdc.beton.sources.reading_ahead import BUFFER_BYTES, HashedFile, choose_reading
from fastdc.beton.sources.trees import FileFetch

WITHOUT_NUMBA = "import sys; from fastdc.beton.sources.reading_ahead import choose_reading as choose; "


def chosen(images):
    """Return whether a process without numba chooses it, and whether it has numba then."""
    script = WITHOUT_NUMBA + f"print(choose({images}) is not None, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@pytest.fixture(scope="module")
def ahead():
    reading = choose_reading(10**6)
    if reading is None:
        pytest.skip("no statx, or no OpenSSL")
    return reading


def test_it_is_chosen_where_it_saves_more_than_loading_numba(ahead):
    assert chosen(29_999) == ["False", "False"]
    assert chosen(30_000) == ["True", "True"]
    assert choose_reading(1999) is None  # this process has numba
    assert choose_reading(2000) is not None


def test_files_after_one_that_cannot_be_read_keep_their_own_readers(ahead, tmp_path):
    fetches = [FileFetch(str(tmp_path / name)) for name in "abc"]
    for fetch in (fetches[0], fetches[2]):
        (tmp_path / fetch.path).write_bytes(fetch.path.encode())
    first, *others = ahead(fetches)
    assert first() == HashedFile(fetches[0].path.encode(), hashlib.sha256(fetches[0].path.encode()).digest())
    assert others == fetches[1:]
    with pytest.raises(FileNotFoundError):
        others[0]()


def test_images_that_are_no_files_keep_their_readers(ahead, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    pixels, file = (lambda: b"y"), FileFetch(str(tmp_path / "a"))
    assert ahead([pixels, file]) == [pixels, file]
    read, other = ahead([file, pixels])
    assert read().data == b"x"
    assert other is pixels
    assert ahead([]) == []


def test_what_was_read_survives_the_next_reading(ahead, tmp_path):
    """Both use the buffer of this thread."""
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"other")
    (first,), (other,) = ahead([FileFetch(str(tmp_path / "a"))]), ahead([FileFetch(str(tmp_path / "b"))])
    assert (first().data, other().data) == (b"first", b"other")


def test_files_that_fill_the_buffer(ahead, tmp_path):
    for name, size in (("a", BUFFER_BYTES), ("b", 1)):
        (tmp_path / name).write_bytes(bytes(size))
    first, second = ahead([FileFetch(str(tmp_path / name)) for name in "ab"])
    assert len(first().data) == BUFFER_BYTES
    assert second == FileFetch(str(tmp_path / "b"))
