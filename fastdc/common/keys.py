"""Compute content keys, which identify data and everything derived from it, and derive seeds by name."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

SeedPart = str | int | float | bool | None
"""Value that a random decision may depend on."""


def content_key(value: Any, length: int = 32) -> str:
    """Return the hex SHA-256 of the canonical JSON of `value`, cut to `length` characters.

    Dictionaries are sorted by key, so the order of settings does not matter.

    Raises:
        ValueError: `value` holds NaN or infinity.
        TypeError: `value` holds something that JSON cannot express.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def bytes_key(data: bytes | memoryview, length: int = 32) -> str:
    """Return the hex SHA-256 of `data`, cut to `length` characters (32 hex digits = 128 bits)."""
    return hashlib.sha256(data).hexdigest()[:length]


def file_key(path: Path, length: int = 32) -> str:
    """Return the hex SHA-256 of a file's content, cut to `length` characters; kept until the file changes.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    return _file_digest(path, state.st_ino, state.st_size, state.st_mtime_ns)[:length]


# The unused arguments are part of the cache's key, so that a changed file is read again.
@lru_cache(maxsize=1024)
def _file_digest(path: Path, _inode: int, _size: int, _changed: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def derive_seed(root: int, purpose: str, **parts: SeedPart) -> int:
    """Return the seed for one purpose: 63 bits of SHA-256 over the canonical JSON of its named parts.

    The first eight bytes are read as a little-endian integer, whose lowest bit is dropped.

    Args:
        root: the run's root seed.
        purpose: use of the seed ("shuffle", "init", ...); different purposes never share a stream.
        parts: everything else the decision may depend on (epoch, method, ipc, ...). Order does not matter.

    Returns:
        An integer in [0, 2**63).
    """
    canonical = json.dumps({"root": root, "purpose": purpose, **parts}, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "little") >> 1
