"""Folders are whole or absent."""

import errno
import fcntl

import pytest

from fastdc.common.folders import atomic_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_leftovers_of_killed_writers_are_removed(tmp_path):
    (tmp_path / ".out.00000000.tmp").mkdir()
    with atomic_folder(tmp_path / "out") as one:
        (one / "a").write_text("a")
        with atomic_folder(tmp_path / "out"):
            assert (one / "a").exists()
            assert not (tmp_path / ".out.00000000.tmp").exists()
    assert names(tmp_path) == ["out"]


def test_without_locks_no_other_folder_is_removed(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EBADF, "NFS locks only what is open for writing")

    monkeypatch.setattr(fcntl, "flock", flock)
    with atomic_folder(tmp_path / "out") as one:
        (one / "a").write_text("a")
        with pytest.raises(KeyError), atomic_folder(tmp_path / "out"):
            raise KeyError
        assert (one / "a").exists()
    assert names(tmp_path / "out") == ["a"]
