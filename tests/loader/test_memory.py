"""Free memory, the identity of files, and the process-wide cache."""

import os
import threading
import time
from pathlib import Path

import pytest

from fastdc.common.errors import LoaderError
from fastdc.loader import image_cache as memory
from fastdc.loader.image_cache import SharedCache, available_memory, file_identity


def test_available_memory_is_plausible() -> None:
    assert 0 < available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_container_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 2_000_000


def test_a_container_without_a_limit_has_the_memory_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() > 10_000_000


def test_file_cache_is_not_used_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("8000000\n")
    (tmp_path / "memory.current").write_text("7900000\n")
    (tmp_path / "memory.stat").write_text("anon 900000\ninactive_file 5000000\nactive_file 1000000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 6_100_000


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_inner_groups_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu,cpuacct:/other\n5:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    root = tmp_path / "memory" if version == 1 else tmp_path
    limit, used = ("limit_in_bytes", "usage_in_bytes") if version == 1 else ("max", "current")
    for folder, size in ((root / "job/step", 5_000_000), (root / "job", 3_000_000)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"memory.{limit}").write_text(f"{size}\n")
        (folder / f"memory.{used}").write_text("1000000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    assert available_memory() == 2_000_000


def test_a_replaced_file_has_another_identity_even_with_equal_size_and_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_bytes(b"12")
        os.utime(path, ns=(5, 5))
    before = file_identity(first)
    os.replace(second, first)
    assert file_identity(first) != before


def test_a_rewritten_file_has_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12")
    os.utime(path, ns=(5, 5))
    before = file_identity(path)
    path.write_bytes(b"34")
    assert file_identity(path) != before


def test_a_link_has_the_identity_of_its_target(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"12")
    link.symlink_to(path)
    assert file_identity(link) == file_identity(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match=r"nowhere.beton: cannot be opened \(No such file"):
        file_identity(tmp_path / "nowhere.beton")


def test_a_value_is_made_once() -> None:
    cache, made = SharedCache(), []
    for _ in range(3):
        assert cache.get("key", 10, lambda: made.append(1) or len(made)) == 1
    assert "key" in cache


def test_concurrent_requests_share_one_value() -> None:
    cache, made = SharedCache(), []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    threads = [threading.Thread(target=cache.get, args=("key", 1, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_the_least_recently_used_value_is_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 100)  # room for (100 + held) / 2
    cache = SharedCache()
    for key in ("a", "b"):
        cache.get(key, 30, lambda: 0)
    cache.get("a", 30, lambda: 0)
    cache.get("c", 30, lambda: 0)
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)


def test_a_failed_value_is_not_kept() -> None:
    cache = SharedCache()
    with pytest.raises(ZeroDivisionError):
        cache.get("key", 1, lambda: 1 // 0)
    assert cache.get("key", 1, lambda: 7) == 7
