"""How much memory may be used, and the process-wide cache of decoded images that it bounds."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fastdc.errors import LoaderError

Value = TypeVar("Value")

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process can still use: what the machine has free, or less where a container's limit is nearer."""
    limits = [_machine_available(), _container_available()]
    return min(limit for limit in limits if limit is not None)


def _machine_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: count half of the physical memory as free
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _container_available() -> int | None:
    """What the control group of a container leaves, None without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()), 0)
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
    return None


class FileIdentity(NamedTuple):
    """Which content a path leads to; a file that was rewritten or replaced has another identity."""

    path: str
    size: int
    modified_ns: int
    inode: int
    device: int


def file_identity(path: Path) -> FileIdentity:
    """Identity of the file at `path` now.

    Raises:
        LoaderError: there is no readable file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise LoaderError(f"{path}: cannot be opened ({error.strerror}), expected a .beton file") from error
    return FileIdentity(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


class SharedCache:
    """Values shared by all loaders of the process; the least recently used go when memory gets short.

    A value that a loader still uses stays alive with that loader; the cache only forgets it.
    """

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.RLock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, size: int, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` (which needs about `size` bytes) the first time.

        One thread makes, others wait: two cells that start together share one decode.
        """
        with self._lock:
            if key not in self._values:
                self._make_room(size)
                self._values[key] = (make(), size)
            self._values.move_to_end(key)
            value: Value = self._values[key][0]
            return value

    def _make_room(self, size: int) -> None:
        """Forget old values until these and the new one take at most half of the memory that is free without them."""
        held = sum(known for _, known in self._values.values())
        room = (available_memory() + held) // 2
        while self._values and held + size > room:
            _, (_, known) = self._values.popitem(last=False)
            held -= known

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


CACHE = SharedCache()
