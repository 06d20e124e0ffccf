"""Available memory, and the process-wide cache of decoded images that it bounds."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fastdc.common.errors import LoaderError

Value = TypeVar("Value")

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def available_memory() -> int:
    """Return the bytes that this process can still use: the machine's free memory, or a tighter container limit."""
    limits = [_machine_available(), _container_available()]
    return min(limit for limit in limits if limit is not None)


def _machine_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: assume that half of the physical memory is free
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class _Accounting(NamedTuple):
    """File names of a control group, and the parts of its usage that the kernel reclaims on demand."""

    limit: str
    used: str
    reclaimable: tuple[str, ...]


_VERSION_1 = _Accounting("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_VERSION_2 = _Accounting("memory.max", "memory.current", ("inactive_file", "active_file"))


def _container_available() -> int | None:
    """Return the bytes left in the tightest of this process's control groups; None without a limit."""
    found = [_group_available(folder, names) for folder, names in _control_groups()]
    return min((available for available in found if available is not None), default=None)


def _control_groups() -> list[tuple[Path, _Accounting]]:
    """List the memory groups of this process and all groups above them.

    Slurm and systemd set their limits on inner groups, not on the root.
    """
    paths = {_VERSION_2: "/", _VERSION_1: "/"}
    try:
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                paths[_VERSION_2] = path
            elif "memory" in controllers.split(","):
                paths[_VERSION_1] = path
    except (OSError, ValueError):
        pass  # not Linux, or an unknown format: keep the root group, which is what a container sees
    groups = []
    for names, path in paths.items():
        root = _CGROUP / "memory" if names is _VERSION_1 else _CGROUP
        inner = root / path.lstrip("/")
        groups += [(folder, names) for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return groups


def _group_available(folder: Path, names: _Accounting) -> int | None:
    try:
        limit, used = int((folder / names.limit).read_text()), int((folder / names.used).read_text())
    except (OSError, ValueError):  # no such file, or the value "max", which means no limit
        return None
    return max(limit - used + min(_reclaimable(folder, names), used), 0)


def _reclaimable(folder: Path, names: _Accounting) -> int:
    """Return the bytes of file cache, which count as used but are freed on demand."""
    try:
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return sum(int(fields.get(name, 0)) for name in names.reclaimable)
    except (OSError, ValueError):
        return 0


class FileIdentity(NamedTuple):
    """Identity of a file's content; a rewritten or replaced file has another one."""

    path: str
    size: int
    modified_ns: int
    inode: int
    device: int


def file_identity(path: Path) -> FileIdentity:
    """Return the identity of the file at `path` now.

    Raises:
        LoaderError: there is no readable file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise LoaderError(f"{path}: cannot be opened ({error.strerror}), expected a .beton file") from error
    return identity_of(path, found)


def identity_of(path: Path, found: os.stat_result) -> FileIdentity:
    """Return the identity of the file at `path` with the status `found`."""
    return FileIdentity(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


class SharedCache:
    """Cache of values shared by all loaders of the process; the least recently used go when memory gets short.

    A value still used by a loader stays alive with that loader; the cache only forgets it.

    Args:
        free: returns the bytes still available where the values lie; None for the main memory.
    """

    def __init__(self, free: Callable[[], int] | None = None) -> None:
        self._free = free or (lambda: available_memory())  # looked up at each call, so that tests can replace it
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.RLock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, size: int, make: Callable[[], Value]) -> Value:
        """Return the value of `key`; the first call makes it with `make`, which needs about `size` bytes.

        One thread makes it while others wait, so two cells that start together share one decode.
        """
        with self._lock:
            if key not in self._values:
                self._make_room(size)
                self._values[key] = (make(), size)
            self._values.move_to_end(key)
            value: Value = self._values[key][0]
            return value

    def _make_room(self, size: int) -> None:
        """Forget the oldest values until the rest and the new one fit into half of the memory free without them."""
        # `_free` does not count the memory that these values occupy, so it is added back.
        held = sum(known for _, known in self._values.values())
        room = (self._free() + held) // 2
        while self._values and held + size > room:
            _, (_, known) = self._values.popitem(last=False)
            held -= known

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()


CACHE = SharedCache()
